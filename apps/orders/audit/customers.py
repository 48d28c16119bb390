"""Customers on the shards against the directory of identities: two databases, summed up by buckets and compared."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, MAX_SLOTS_READ, fetch, utc
from apps.users.services.erasure import drive_erasures
from apps.users.services.registration import reap_orphan_customers
from infra.sharding.places import shard_aliases

DIRECTORY: Final = "users"
_BUCKET: Final = "CRC32(user_id) & 1023"


def registrations_end(alias: str, now: datetime) -> Iterator[Finding]:
    """A registration is completed or taken back in time."""
    rows = fetch(
        alias,
        f"SELECT user_id, registered_at FROM users_customer WHERE state = 'registering' LIMIT {MAX_FINDINGS}",
    )
    for user_id, registered_at in rows:
        yield Finding(
            "customers",
            alias,
            f"customer {user_id}",
            f"still registering since {registered_at:%Y-%m-%d %H:%M:%S}",
            since=utc(registered_at),
            bound_s=settings.REGISTRATION_DEADLINE_S + BACKLOG_BOUND_S,
            mend=partial(_reap, alias),
        )


def accounts_end(alias: str, now: datetime) -> Iterator[Finding]:
    """What an ended account left is erased when its time has come."""
    rows = fetch(
        alias,
        "SELECT user_id, due_at FROM users_erasure WHERE due_at < UTC_TIMESTAMP(6) "
        f"ORDER BY due_at LIMIT {MAX_FINDINGS}",
    )
    for user_id, due_at in rows:
        yield Finding(
            "customers",
            alias,
            f"customer {user_id}",
            f"the account was ended, and its erasure has been due since {due_at:%Y-%m-%d %H:%M:%S}",
            since=utc(due_at),
            bound_s=BACKLOG_BOUND_S,
            mend=partial(_erase, alias),
        )


def customers_agree_with_the_directory(_: str, now: datetime) -> Iterator[Finding]:
    """Each customer has a live identity, and each live identity its customer."""
    known = _sums((DIRECTORY,), "users_identity", "state = 'live'")
    stored = _sums(shard_aliases(), "users_customer", "state <> 'registering'")
    buckets = sorted(bucket for bucket in known.keys() | stored.keys() if known.get(bucket) != stored.get(bucket))
    for bucket in buckets[:MAX_SLOTS_READ]:
        yield from _compare_bucket(bucket)
    if len(buckets) > MAX_SLOTS_READ:
        yield Finding("customers", "all", "further customers", f"{len(buckets) - MAX_SLOTS_READ} more buckets differ")


def _sums(aliases: tuple[str, ...], table: str, condition: str) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    for alias in aliases:
        for bucket, count, checksum in fetch(
            alias,
            f"SELECT {_BUCKET}, COUNT(*), SUM(CRC32(user_id) ^ (user_id & 4294967295)) FROM {table} "
            f"WHERE {condition} GROUP BY 1",
        ):
            known_count, known_checksum = sums.get(bucket, (0, 0))
            sums[bucket] = known_count + count, known_checksum + int(checksum)
    return sums


def _compare_bucket(bucket: int) -> Iterator[Finding]:
    stored: dict[int, tuple[str, str, datetime]] = {}
    for alias in shard_aliases():
        for user_id, state, registered_at in fetch(
            alias,
            f"SELECT user_id, state, registered_at FROM users_customer WHERE {_BUCKET} = %s",
            [bucket],
        ):
            stored[user_id] = alias, state, registered_at
    # Read after the customers: an identity is written after its customer.
    known = {
        user_id: (state, created_at)
        for user_id, state, created_at in fetch(
            DIRECTORY,
            f"SELECT user_id, state, created_at FROM users_identity WHERE {_BUCKET} = %s",
            [bucket],
        )
    }
    for user_id, (alias, state, registered_at) in stored.items():
        if state != "registering" and known.get(user_id, ("absent", None))[0] != "live":
            yield Finding(
                "customers",
                alias,
                f"customer {user_id}",
                "the directory has no live identity of it",
                since=utc(registered_at),
                bound_s=BACKLOG_BOUND_S,
            )
    for user_id, (state, created_at) in known.items():
        if state == "live" and user_id not in stored:
            yield Finding(
                "customers",
                DIRECTORY,
                f"identity {user_id}",
                "its customer is on no shard",
                since=utc(created_at),
                bound_s=BACKLOG_BOUND_S,
            )


def _erase(alias: str, now: datetime) -> None:
    drive_erasures(alias=alias, now=now)


def _reap(alias: str, now: datetime) -> None:
    reap_orphan_customers(alias=alias, now=now)
