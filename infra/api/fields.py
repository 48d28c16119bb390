"""Serializer fields that take the JSON type they say and nothing that merely looks like it."""

import re
from decimal import Decimal
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
MAX_ID: Final = 2**63 - 1
MONEY_PATTERN: Final = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?\Z"


class StrictCharField(serializers.CharField):
    """A JSON string, kept as it is, without control characters other than tab and line ends."""

    default_error_messages = {"control": "Control characters are not allowed."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: object) -> str:
        """Return the string, or fail with `invalid` or `control`."""
        if not isinstance(data, str):
            self.fail("invalid")
        if _CONTROL.search(data):
            self.fail("control")
        return data


@extend_schema_field(OpenApiTypes.STR)
class OpaqueStringField(serializers.Field[str, Any, str, Any]):
    """Any JSON string, whatever is in it and however long: for what is only compared."""

    default_error_messages = {"invalid": "Not a valid string."}

    def to_internal_value(self, data: object) -> str:
        """Return the string, or fail with `invalid`."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data

    def to_representation(self, value: str) -> str:
        """Return the string."""
        return value


class TimeField(serializers.DateTimeField):
    """A time of RFC 3339, whose `T` and `Z` may be small letters (section 5.6)."""

    def to_internal_value(self, value: Any) -> Any:
        """Return the time, or fail with `invalid`."""
        return super().to_internal_value(value.upper() if isinstance(value, str) else value)


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without a fraction; neither a string nor a boolean."""

    def to_internal_value(self, data: object) -> int:
        """Return the integer, or fail with `invalid`."""
        if isinstance(data, float) and data.is_integer():
            return int(data)  # JSON has one number type: 1.0 is 1
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictBooleanField(serializers.BooleanField):
    """A JSON boolean."""

    def to_internal_value(self, data: object) -> bool:
        """Return the boolean, or fail with `invalid`."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class IdField(serializers.CharField):
    """An id: a decimal string of 1 to 2^63-1 without leading zeros; an `int` inside."""

    default_error_messages = {"invalid": "An id is a string of decimal digits."}

    def to_internal_value(self, data: object) -> int:  # type: ignore[override]  # a string outside, an int inside
        """Return the id, or fail with `invalid`."""
        number = id_from_text(data) if isinstance(data, str) else None
        if number is None:
            self.fail("invalid")
        return number

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate without CharField's length checks, which would meet an int."""
        return serializers.Field.run_validation(self, data)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators = []


class MoneyField(serializers.DecimalField):
    """An amount as a decimal string, such as `"12.34"`."""

    _PATTERN: Final = re.compile(MONEY_PATTERN)
    default_error_messages = {"invalid": 'An amount is a string such as "12.34".'}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 16)
        kwargs.setdefault("decimal_places", 4)
        super().__init__(**kwargs)

    def to_internal_value(self, data: object) -> Decimal:
        """Return the amount, or fail with `invalid`."""
        if not isinstance(data, str) or self._PATTERN.match(data) is None:
            self.fail("invalid")
        return Decimal(data)

    def to_representation(self, value: Decimal | str) -> str:
        """Return the amount with the decimals that it was computed with."""
        return str(value)


def id_from_text(text: str) -> int | None:
    """Return the id that a text writes, or None if it writes none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or text[0] == "0":
        return None
    number = int(text)
    return number if number <= MAX_ID else None
