"""Fields of shoppers: logins, codes, locale, time zone, country."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.users.domain import (
    CODE_LENGTH,
    MAX_EMAIL_LENGTH,
    MAX_USERNAME_LENGTH,
    MalformedLogin,
    is_country,
    is_locale,
    is_time_zone,
    normalise_email,
    normalise_phone,
    normalise_username,
)
from infra.api.fields import StrictCharField

_E164_LENGTH = 16


class _LoginField(StrictCharField):
    """A login, normalised; its length is bounded as it was sent, too, as the schema says."""

    length: ClassVar[int]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=self.length, **kwargs)

    def to_internal_value(self, data: object) -> str:
        """Return the normalised login, or fail."""
        text = super().to_internal_value(data)
        if len(text) > self.length:
            self.fail("max_length", max_length=self.length)
        try:
            return self.normalise(text)
        except MalformedLogin as error:
            raise serializers.ValidationError(str(error), code="invalid") from error

    def normalise(self, text: str) -> str:
        """Return the login as it is compared; raises MalformedLogin."""
        raise NotImplementedError


class UsernameField(_LoginField):
    """A username."""

    length = MAX_USERNAME_LENGTH

    def normalise(self, text: str) -> str:
        """See `normalise_username`."""
        return normalise_username(text)


@extend_schema_field({"type": "string", "format": "email", "minLength": 3, "maxLength": MAX_EMAIL_LENGTH})
class EmailAddressField(_LoginField):
    """An e-mail address."""

    length = MAX_EMAIL_LENGTH

    def normalise(self, text: str) -> str:
        """See `normalise_email`."""
        return normalise_email(text)


@extend_schema_field({"type": "string", "pattern": r"^\+[1-9][0-9]{1,14}$"})
class PhoneField(_LoginField):
    """A phone number in E.164."""

    length = _E164_LENGTH

    def normalise(self, text: str) -> str:
        """See `normalise_phone`."""
        return normalise_phone(text)


@extend_schema_field({"type": "string", "default": ""})
class OptionalPhoneField(PhoneField):
    """A phone number in E.164, or nothing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_blank=True, **kwargs)


class PasswordField(StrictCharField):
    """A new password: 8 to 128 characters, as they are."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=8, max_length=128, write_only=True, **kwargs)


@extend_schema_field({"type": "string", "pattern": f"^[0-9]{{{CODE_LENGTH}}}$"})
class CodeField(StrictCharField):
    """A code of six digits; a number is not one, since codes may begin with 0."""

    def to_internal_value(self, data: object) -> str:
        """Return the code, or fail."""
        text = super().to_internal_value(data)
        if len(text) != CODE_LENGTH or not (text.isascii() and text.isdigit()):
            raise serializers.ValidationError("A code has six digits.", code="invalid")
        return text


class _KnownTextField(StrictCharField):
    """A text of a known list or form."""

    refusal: ClassVar[str]

    def to_internal_value(self, data: object) -> str:
        """Return the text, or fail."""
        text = super().to_internal_value(data)
        if not self.is_known(text):
            raise serializers.ValidationError(self.refusal, code="invalid")
        return text

    def is_known(self, text: str) -> bool:
        """Tell whether the text is of the list or form."""
        raise NotImplementedError


@extend_schema_field({"type": "string", "pattern": "^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"})
class LocaleField(_KnownTextField):
    """A language tag, such as `en-GB`."""

    refusal = "A locale is a language tag, such as en-GB."

    def is_known(self, text: str) -> bool:
        """See `is_locale`."""
        return is_locale(text)


class TimeZoneField(_KnownTextField):
    """A zone of the IANA time zone database, such as `Europe/London`."""

    refusal = "There is no such time zone."

    def is_known(self, text: str) -> bool:
        """See `is_time_zone`."""
        return is_time_zone(text)


@extend_schema_field({"type": "string", "pattern": "^[A-Z]{2}$"})
class CountryField(_KnownTextField):
    """A country by its ISO 3166-1 alpha-2 code, such as `GB`."""

    refusal = "A country is an ISO 3166-1 code, such as GB."

    def is_known(self, text: str) -> bool:
        """See `is_country`."""
        return is_country(text)
