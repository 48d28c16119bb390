"""Shoppers for load tests: thousands a second, over all shards, each with a session and an address."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from django.conf import settings

from apps.users.access_tokens import sign_access_token
from apps.users.errors import RefusedInProduction
from apps.users.models import Address, Customer, CustomerState, Identity, IdentityState, Session
from apps.users.services.addresses import new_address_id
from apps.users.services.sessions import new_session
from apps.users.types import AddressFields, BenchShopper
from infra.sharding.places import place_of_user, shard_atomic
from infra.sharding.workers import new_user_id

_BATCH: Final = 1000
_DEVICE: Final = "bench"
_ADDRESS: Final = AddressFields(
    name="Bench Shopper",
    phone="+441632960961",
    country="GB",
    region="",
    city="London",
    line1="1 Load Test Lane",
    line2="",
    postcode="E1 6AN",
)


def make_bench_shoppers(count: int) -> Iterator[BenchShopper]:
    """Make shoppers and yield them as they are committed, batch by batch; they have no login and no password.

    Their access tokens are valid for an hour and exempt from limits. Raises RefusedInProduction.
    """
    if settings.IS_PRODUCTION:
        raise RefusedInProduction("Bench shoppers are exempt from limits; none are made under production settings.")
    for start in range(0, count, _BATCH):
        yield from _make_batch(min(_BATCH, count - start), datetime.now(UTC))


def _make_batch(count: int, now: datetime) -> Iterator[BenchShopper]:
    customers: dict[str, list[Customer]] = {}
    for _ in range(count):
        user_id = new_user_id()
        place = place_of_user(user_id)
        customers.setdefault(place.alias, []).append(
            Customer(slot=place.slot, user_id=user_id, state=CustomerState.LIVE, registered_at=now, updated_at=now)
        )
    sessions: list[Session] = []
    addresses: list[Address] = []
    for alias, members in customers.items():
        own_sessions = [
            new_session(slot=member.slot, user_id=member.user_id, device=_DEVICE, now=now) for member in members
        ]
        own_addresses = [_bench_address(member, now) for member in members]
        with shard_atomic(alias, {member.slot for member in members}):
            Customer.objects.using(alias).bulk_create(members)
            Session.objects.using(alias).bulk_create(own_sessions)
            Address.objects.using(alias).bulk_create(own_addresses)
        sessions += own_sessions
        addresses += own_addresses
    Identity.objects.bulk_create(
        Identity(user_id=session.user_id, state=IdentityState.LIVE, created_at=now) for session in sessions
    )
    for session, address in zip(sessions, addresses, strict=True):
        access = sign_access_token(
            user_id=session.user_id,
            session_id=session.id,
            now=now,
            lifetime_s=settings.BENCH_TOKEN_LIFETIME_S,
            exempt=True,
        )
        yield BenchShopper(session.user_id, access, address.id)


def _bench_address(member: Customer, now: datetime) -> Address:
    return Address(
        slot=member.slot,
        user_id=member.user_id,
        id=new_address_id(),
        country=_ADDRESS.country,
        details=_ADDRESS.as_json(),
        created_at=now,
        updated_at=now,
    )
