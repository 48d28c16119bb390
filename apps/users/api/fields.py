"""Fields of shoppers: logins, codes, locale, time zone, country."""

from typing import Any

from rest_framework import serializers

from apps.users.domain import (
    CODE_LENGTH,
    MalformedLogin,
    is_country,
    is_locale,
    is_time_zone,
    normalise_email,
    normalise_phone,
    normalise_username,
)
from infra.api.fields import StrictCharField


class UsernameField(StrictCharField):
    """A username, normalised."""

    def to_internal_value(self, data: object) -> str:
        """Return the normalised username, or fail."""
        text = super().to_internal_value(data)
        try:
            return normalise_username(text)
        except MalformedLogin as error:
            raise serializers.ValidationError(str(error), code="invalid") from error


class EmailAddressField(StrictCharField):
    """An e-mail address, normalised."""

    def to_internal_value(self, data: object) -> str:
        """Return the normalised address, or fail."""
        text = super().to_internal_value(data)
        try:
            return normalise_email(text)
        except MalformedLogin as error:
            raise serializers.ValidationError(str(error), code="invalid") from error


class PhoneField(StrictCharField):
    """A phone number in E.164."""

    def to_internal_value(self, data: object) -> str:
        """Return the number, or fail; an empty text passes where blanks are allowed."""
        text = super().to_internal_value(data)
        try:
            return normalise_phone(text) if text else text
        except MalformedLogin as error:
            raise serializers.ValidationError(str(error), code="invalid") from error


class PasswordField(StrictCharField):
    """A new password: 8 to 128 characters, as they are."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=8, max_length=128, write_only=True, **kwargs)


class CodeField(serializers.RegexField):
    """A code of six digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(rf"^[0-9]{{{CODE_LENGTH}}}\Z", **kwargs)

    def to_internal_value(self, data: object) -> str:
        """Return the code; a number is not one, since codes may begin with 0."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class LocaleField(StrictCharField):
    """A language tag, such as `en-GB`."""

    def to_internal_value(self, data: object) -> str:
        """Return the tag, or fail."""
        text = super().to_internal_value(data)
        if not is_locale(text):
            raise serializers.ValidationError("A locale is a language tag, such as en-GB.", code="invalid")
        return text


class TimeZoneField(StrictCharField):
    """A zone of the IANA time zone database, such as `Europe/London`."""

    def to_internal_value(self, data: object) -> str:
        """Return the zone's name, or fail."""
        text = super().to_internal_value(data)
        if not is_time_zone(text):
            raise serializers.ValidationError("There is no such time zone.", code="invalid")
        return text


class CountryField(StrictCharField):
    """A country by its ISO 3166-1 alpha-2 code, such as `GB`."""

    def to_internal_value(self, data: object) -> str:
        """Return the code, or fail."""
        text = super().to_internal_value(data)
        if not is_country(text):
            raise serializers.ValidationError("A country is an ISO 3166-1 code, such as GB.", code="invalid")
        return text
