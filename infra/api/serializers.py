"""Serializers that refuse what the contract does not list."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from infra.api.fields import (
    IdField,
    MoneyField,
    OpaqueStringField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    TimeField,
)
from infra.errors import FieldError, ValidationFailed

__all__ = [
    "IdField",
    "MoneyField",
    "OpaqueStringField",
    "QuerySerializer",
    "StrictBooleanField",
    "StrictCharField",
    "StrictIntegerField",
    "StrictSerializer",
    "TimeField",
]


class StrictSerializer(serializers.Serializer[Any]):
    """The body of a request: a JSON object whose members are all known (RFC 6901 pointers in the errors)."""

    default_error_messages = {"unknown": "This field is not known here."}

    def to_internal_value(self, data: Any) -> Any:
        """Validate all members and name each unknown one beside the other errors."""
        if not isinstance(data, Mapping):
            return super().to_internal_value(data)  # fails with `invalid`
        unknown = {
            str(name): [serializers.ErrorDetail(str(self.error_messages["unknown"]), code="unknown_field")]
            for name in data
            if name not in self.fields
        }
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, dict):
                raise serializers.ValidationError({**error.detail, **unknown}) from error
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return value


class QuerySerializer(serializers.Serializer[Any]):
    """Query parameters: unknown ones are ignored, errors name `query:name`."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the validated parameters; raises ValidationFailed."""
        serializer = cls(data={name: query[name] for name in query})
        if serializer.is_valid():
            return dict(serializer.validated_data)
        raise ValidationFailed(
            "The request has invalid query parameters.",
            errors=[
                FieldError(f"query:{name}", str(getattr(detail, "code", "invalid")), str(detail))
                for name, details in serializer.errors.items()
                for detail in details
            ],
        )
