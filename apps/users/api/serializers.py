"""Bodies of /auth and /users."""

from typing import Any, Final

from rest_framework import serializers

from apps.users.api.fields import (
    CodeField,
    CountryField,
    EmailAddressField,
    LocaleField,
    OptionalPhoneField,
    PasswordField,
    PhoneField,
    TimeZoneField,
    UsernameField,
)
from apps.users.domain import MAX_LOGIN_LENGTH
from apps.users.models import Address, Customer, DataExport, DataExportState, Session
from apps.users.types import AddressFields, LoginKind, LoginName, Proof
from infra.api.serializers import IdField, OpaqueStringField, StrictCharField, StrictSerializer

_LINE_LENGTH: Final = 200


class RegisterSerializer(StrictSerializer):
    """A registration: a password and at least one login."""

    default_error_messages = {"no_login": "Give a username, an e-mail address or a phone number."}

    password = PasswordField()
    username = UsernameField(required=False)
    email = EmailAddressField(required=False)
    phone = PhoneField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a registration that nobody could log in to."""
        if not any(kind.value in attrs for kind in LoginKind):
            self.fail("no_login")
        return attrs

    @property
    def logins(self) -> list[LoginName]:
        """The logins that were given, normalised."""
        return [
            LoginName(kind, self.validated_data[kind.value]) for kind in LoginKind if kind.value in self.validated_data
        ]


class RegisterAnswer(serializers.Serializer[Any]):
    """The new user."""

    user_id = IdField()


class VerifySerializer(StrictSerializer):
    """The proof of an e-mail address or phone."""

    login = StrictCharField(min_length=1, max_length=MAX_LOGIN_LENGTH)
    code = CodeField()


class LoginSerializer(StrictSerializer):
    """A login by password."""

    login = StrictCharField(min_length=1, max_length=MAX_LOGIN_LENGTH)
    password = StrictCharField(min_length=1, max_length=128, write_only=True)


class CodeRequestSerializer(StrictSerializer):
    """The phone that a code is asked for."""

    phone = PhoneField()


class CodeLoginSerializer(StrictSerializer):
    """A login by phone and code."""

    phone = PhoneField()
    code = CodeField()


class CodeRequestAnswer(serializers.Serializer[Any]):
    """How long a code that was sent is good, in seconds; the same whether one was sent or not."""

    expires_in = serializers.IntegerField()


class RefreshSerializer(StrictSerializer):
    """A refresh token."""

    refresh = StrictCharField(min_length=1, max_length=512)


class LogoutSerializer(StrictSerializer):
    """A refresh token, or anything that passes for one: the answer is the same."""

    refresh = OpaqueStringField()


class TokenAnswer(serializers.Serializer[Any]):
    """A pair of tokens; `expires_in` is the access token's life in seconds."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    expires_in = serializers.IntegerField()


class SessionAnswer(serializers.Serializer[Session]):
    """A device that is logged in."""

    id = serializers.CharField()
    device = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(source="rotated_at")
    current = serializers.SerializerMethodField()

    def get_current(self, session: Session) -> bool:
        """Tell whether the request came from this session."""
        return bool(session.id == self.context["session_id"])


class SessionListAnswer(serializers.Serializer[Any]):
    """All devices; there is never a next page."""

    results = SessionAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class ProofSerializer(StrictSerializer):
    """The proof that what a stolen session must not do asks for: the current password, or a fresh code."""

    default_error_messages = {"no_proof": "Send either the current password or a fresh code."}

    current_password = StrictCharField(required=False, min_length=1, max_length=128, write_only=True)
    code = CodeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse none, and both."""
        if ("current_password" in attrs) == ("code" in attrs):
            self.fail("no_proof")
        return attrs

    @property
    def proof(self) -> Proof:
        """The proof that was sent; not yet checked."""
        return Proof(password=self.validated_data.get("current_password"), code=self.validated_data.get("code"))


class ConfirmationSerializer(StrictSerializer):
    """Where a fresh code is sent: to the shopper's own proven e-mail address or phone."""

    to = serializers.ChoiceField(choices=[LoginKind.EMAIL.value, LoginKind.PHONE.value])


class PasswordSerializer(ProofSerializer):
    """A change of password, or the first one of a shopper who logs in by codes."""

    new_password = PasswordField()


class UsernameChangeSerializer(ProofSerializer):
    """A new username."""

    username = UsernameField()


class EmailChangeSerializer(ProofSerializer):
    """A new e-mail address."""

    email = EmailAddressField()


class PhoneChangeSerializer(ProofSerializer):
    """A new phone."""

    phone = PhoneField()


class ProfileSerializer(StrictSerializer):
    """What a shopper may change about their profile."""

    display_name = StrictCharField(required=False, allow_blank=True, max_length=100)
    locale = LocaleField(required=False)
    time_zone = TimeZoneField(required=False)


class ProfileAnswer(serializers.Serializer[Customer]):
    """A shopper's own view of their account; logins that they have not given are null."""

    id = IdField(source="user_id")
    username = serializers.SerializerMethodField()
    email = serializers.SerializerMethodField()
    email_verified = serializers.SerializerMethodField()
    phone = serializers.SerializerMethodField()
    phone_verified = serializers.SerializerMethodField()
    display_name = serializers.CharField()
    locale = serializers.CharField()
    time_zone = serializers.CharField()
    registered_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField()

    def get_username(self, customer: Customer) -> str | None:
        """Return the username, if there is one."""
        return customer.username or None

    def get_email(self, customer: Customer) -> str | None:
        """Return the e-mail address, if there is one."""
        return customer.email or None

    def get_email_verified(self, customer: Customer) -> bool:
        """Tell whether the e-mail address is a login."""
        return customer.email_verified_at is not None

    def get_phone(self, customer: Customer) -> str | None:
        """Return the phone number, if there is one."""
        return customer.phone or None

    def get_phone_verified(self, customer: Customer) -> bool:
        """Tell whether the phone number is a login."""
        return customer.phone_verified_at is not None


class AddressSerializer(StrictSerializer):
    """An address."""

    name = StrictCharField(max_length=100)
    phone = OptionalPhoneField(required=False, default="")
    country = CountryField()
    region = StrictCharField(required=False, allow_blank=True, max_length=100, default="")
    city = StrictCharField(max_length=100)
    line1 = StrictCharField(max_length=_LINE_LENGTH)
    line2 = StrictCharField(required=False, allow_blank=True, max_length=_LINE_LENGTH, default="")
    postcode = StrictCharField(required=False, allow_blank=True, max_length=20, default="")

    @property
    def address(self) -> AddressFields:
        """The validated address."""
        return AddressFields(**self.validated_data)


class AddressAnswer(serializers.Serializer[Address]):
    """An address with its id."""

    id = IdField()
    name = serializers.CharField(source="details.name")
    phone = serializers.CharField(source="details.phone")
    country = serializers.CharField(source="details.country")
    region = serializers.CharField(source="details.region")
    city = serializers.CharField(source="details.city")
    line1 = serializers.CharField(source="details.line1")
    line2 = serializers.CharField(source="details.line2")
    postcode = serializers.CharField(source="details.postcode")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AddressListAnswer(serializers.Serializer[Any]):
    """All addresses; a shopper has few, so there is never a next page."""

    results = AddressAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class ExportRequestSerializer(StrictSerializer):
    """A request for all data, which has no fields."""


class ExportAnswer(serializers.Serializer[DataExport]):
    """An export of a shopper's data; when it is `ready`, its parts are numbered from 1 to `part_count`."""

    id = serializers.CharField()
    status = serializers.ChoiceField(source="state", choices=DataExportState.choices)
    requested_at = serializers.DateTimeField()
    ready_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    part_count = serializers.SerializerMethodField()

    def get_part_count(self, export: DataExport) -> int | None:
        """Return how many parts there are, once that is known."""
        return export.part_count if export.state == DataExportState.READY else None


class ExportListAnswer(serializers.Serializer[Any]):
    """The exports that are still kept; there is never a next page."""

    results = ExportAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class ExportPartAnswer(serializers.Serializer[Any]):
    """A part of an export: `kind` names what the rows are (`account`, `orders`, ...)."""

    kind = serializers.CharField()
    rows = serializers.ListField(child=serializers.DictField())
