"""Shoppers for tests; every login and user is one of its own."""

from datetime import UTC, datetime
from secrets import randbelow, token_hex

from django.conf import settings

from apps.users.models import Address, Customer, CustomerState, Identity, IdentityState
from apps.users.services.addresses import create_address
from apps.users.services.registration import register
from apps.users.services.sessions import log_in
from apps.users.types import AddressFields, LoginKind, LoginName, TokenPair
from infra.sharding.places import place_of_user
from infra.sharding.workers import new_user_id

PASSWORD = "correct horse battery staple"
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
LONDON = AddressFields(
    name="Ada Lovelace",
    phone="+441632960961",
    country="GB",
    region="",
    city="London",
    line1="12 St James's Square",
    line2="",
    postcode="SW1Y 4JH",
)


def new_username() -> LoginName:
    """Return a username that no other test uses."""
    return LoginName(LoginKind.USERNAME, f"user-{token_hex(6)}")


def new_email() -> LoginName:
    """Return an e-mail address that no other test uses."""
    return LoginName(LoginKind.EMAIL, f"{token_hex(6)}@example.org")


def new_phone() -> LoginName:
    """Return a phone number that no other test uses."""
    return LoginName(LoginKind.PHONE, f"+4479{randbelow(10**8):08d}")


def user_id_on(alias: str) -> int:
    """Return a user id that no other test uses, on a shard."""
    while True:
        user_id = new_user_id()
        if place_of_user(user_id).alias == alias:
            return user_id


def make_customer(*, shard: int | None = None, state: str = CustomerState.LIVE, **columns: object) -> Customer:
    """Write a customer and their identity, without a login; on a shard of choice."""
    user_id = new_user_id() if shard is None else user_id_on(settings.SHARD_ALIASES[shard])
    place = place_of_user(user_id)
    columns = {"registered_at": NOW, "updated_at": NOW, **columns}
    customer = Customer(slot=place.slot, user_id=user_id, state=state, **columns)
    customer.save(using=place.alias, force_insert=True)
    Identity(user_id=user_id, state=IdentityState.LIVE, created_at=NOW).save(force_insert=True)
    return customer


def registered(*logins: LoginName, now: datetime = NOW) -> int:
    """Register a shopper (by a new username when no login is given) with PASSWORD and return the user id."""
    return register(logins=logins or [new_username()], password=PASSWORD, now=now)


def logged_in(login: LoginName, *, now: datetime = NOW, device: str = "") -> TokenPair:
    """Log in with PASSWORD."""
    return log_in(login=login.value, password=PASSWORD, address="192.0.2.1", device=device, now=now)


def make_address(user_id: int, *, now: datetime = NOW) -> Address:
    """Add an address to a customer."""
    return create_address(user_id=user_id, fields=LONDON, now=now)
