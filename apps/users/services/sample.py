"""The sample shopper of a developer's machine."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings

from apps.users.errors import RefusedInProduction
from apps.users.selectors import find_user_id, list_addresses
from apps.users.services.addresses import create_address
from apps.users.services.registration import register
from apps.users.types import AddressFields, LoginKind, LoginName

_LOGIN: Final = LoginName(LoginKind.USERNAME, "demo")
_PASSWORD: Final = "floodgate-demo"  # noqa: S105 - refused under production
_ADDRESS: Final = AddressFields(
    name="Demo Shopper",
    phone="+441632960961",
    country="GB",
    region="",
    city="London",
    line1="221B Baker Street",
    line2="",
    postcode="NW1 6XE",
)


@dataclass(frozen=True, slots=True)
class SampleLogin:
    """What a newcomer logs in with, and an address to order to."""

    login: str
    password: str
    address_id: int


def make_sample_login(*, now: datetime) -> SampleLogin:
    """Make the shopper `demo` with a well-known password and an address, unless they are there.

    Raises RefusedInProduction.
    """
    if settings.IS_PRODUCTION:
        raise RefusedInProduction("A login with a well-known password is not made under production settings.")
    user_id = find_user_id(_LOGIN)
    if user_id is None:
        user_id = register(logins=[_LOGIN], password=_PASSWORD, now=now)
    addresses = list_addresses(user_id)
    address = addresses[0] if addresses else create_address(user_id=user_id, fields=_ADDRESS, now=now)
    return SampleLogin(_LOGIN.value, _PASSWORD, address.id)
