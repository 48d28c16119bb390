"""Shoppers for load tests: thousands a second, over all shards, each with a session and an address."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Final

from django.conf import settings
from django.db import connections

from apps.users.access_tokens import sign_access_token
from apps.users.errors import RefusedInProduction
from apps.users.models import DIRECTORY, CustomerState, IdentityState
from apps.users.services.addresses import new_address_id
from apps.users.services.sessions import new_session_id
from apps.users.types import AddressFields, BenchShopper
from infra.crypto.fields import seal_json
from infra.sharding.places import place_of_slot, place_of_user, shard_atomic
from infra.sharding.slots import SLOT_COUNT, slot_of_user
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

# The client library joins rows into one statement only where every value is a placeholder.
_INSERT_CUSTOMER: Final = (
    "INSERT INTO users_customer (slot, user_id, state, version, password, username, email, phone, display_name,"
    " locale, time_zone, registered_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_INSERT_SESSION: Final = (
    "INSERT INTO users_session (slot, user_id, id, seed, generation, device, created_at, rotated_at, expires_at,"
    " end_reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_INSERT_ADDRESS: Final = (
    "INSERT INTO users_address (slot, user_id, id, country, details, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
_INSERT_IDENTITY: Final = "INSERT INTO users_identity (user_id, state, created_at) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class _NewShopper:
    user_id: int
    slot: int
    session_id: str
    seed: bytes
    address_id: int


def make_bench_shoppers(count: int) -> Iterator[BenchShopper]:
    """Make shoppers and yield them as they are committed, batch by batch; they have no login and no password.

    The shards take turns, so that even a few shoppers are on all of them. Their access tokens are valid for an hour and
    exempt from limits. Raises RefusedInProduction.
    """
    if settings.IS_PRODUCTION:
        raise RefusedInProduction("Bench shoppers are exempt from limits; none are made under production settings.")
    user_ids = _user_ids_by_turns()
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        yield from _make_batch([next(user_ids) for _ in range(size)], datetime.now(UTC))


def _user_ids_by_turns() -> Iterator[int]:
    """Yield new ids, one of each shard that owns slots after the other; what comes before its turn waits for it."""
    aliases = sorted({place_of_slot(slot).alias for slot in range(SLOT_COUNT)})
    waiting: dict[str, list[int]] = {alias: [] for alias in aliases}
    first = secrets.randbelow(len(aliases))
    for alias in cycle([*aliases[first:], *aliases[:first]]):
        while not waiting[alias]:
            user_id = new_user_id()
            waiting[place_of_user(user_id).alias].append(user_id)
        yield waiting[alias].pop()


def _make_batch(user_ids: Sequence[int], now: datetime) -> Iterator[BenchShopper]:
    batch = [_new_shopper(user_id) for user_id in user_ids]
    sealed = seal_json(_ADDRESS.as_json())
    by_alias: dict[str, list[_NewShopper]] = {}
    for shopper in batch:
        by_alias.setdefault(place_of_user(shopper.user_id).alias, []).append(shopper)
    for alias, members in by_alias.items():
        with shard_atomic(alias, {shopper.slot for shopper in members}):
            _insert_on_shard(alias, members, sealed, now)
    with connections[DIRECTORY].cursor() as cursor:
        at = connections[DIRECTORY].ops.adapt_datetimefield_value(now)
        cursor.executemany(_INSERT_IDENTITY, [(shopper.user_id, IdentityState.LIVE.value, at) for shopper in batch])
    for shopper in batch:
        access = sign_access_token(
            user_id=shopper.user_id,
            session_id=shopper.session_id,
            now=now,
            lifetime_s=settings.BENCH_TOKEN_LIFETIME_S,
            exempt=True,
        )
        yield BenchShopper(shopper.user_id, access, shopper.address_id)


def _new_shopper(user_id: int) -> _NewShopper:
    return _NewShopper(user_id, slot_of_user(user_id), new_session_id(), secrets.token_bytes(16), new_address_id())


def _insert_on_shard(alias: str, members: Sequence[_NewShopper], sealed: str, now: datetime) -> None:
    """Write the rows of one shard; a multi-row INSERT a table, which the ORM does at a fifth of the speed."""
    connection = connections[alias]
    at = connection.ops.adapt_datetimefield_value(now)
    until = connection.ops.adapt_datetimefield_value(now + timedelta(seconds=settings.REFRESH_TOKEN_LIFETIME_S))
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT_CUSTOMER,
            [
                (shopper.slot, shopper.user_id, CustomerState.LIVE.value, 0, "", "", "", "", "", "en", "UTC", at, at)
                for shopper in members
            ],
        )
        cursor.executemany(
            _INSERT_SESSION,
            [
                (shopper.slot, shopper.user_id, shopper.session_id, shopper.seed, 0, _DEVICE, at, at, until, "")
                for shopper in members
            ],
        )
        cursor.executemany(
            _INSERT_ADDRESS,
            [
                (shopper.slot, shopper.user_id, shopper.address_id, _ADDRESS.country, sealed, at, at)
                for shopper in members
            ],
        )
