"""Events for tests: orders on a chosen shard, their events, a group's log, and a bus of the test's own."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import connections

from infra.events.envelope import Envelope
from infra.followups.types import FollowUp
from infra.outbox.services import append
from infra.outbox.types import EventDraft
from infra.sharding.ids import IdParts, compose, wall_clock_ms
from infra.sharding.places import place_of_order, place_of_user

# A worker number of tests; its sequence is spread by random bits of the time.
TEST_WORKER = 1000
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class TestOrder:
    """Ids of an order that exists nowhere, on a known shard."""

    alias: str
    user_id: int
    order_id: int


def order_on(alias: str) -> TestOrder:
    """Return ids of a user and an order that live on a shard."""
    while True:
        user_id = secrets.randbelow(2**62)
        place = place_of_user(user_id)
        if place.alias == alias:
            at_ms = wall_clock_ms() - secrets.randbelow(3_600_000)
            parts = IdParts(at_ms=at_ms, slot=place.slot, worker=TEST_WORKER, sequence=next(_numbers) % 4)
            return TestOrder(alias=alias, user_id=user_id, order_id=compose(parts))


def orders_on_both_shards(count: int) -> list[TestOrder]:
    """Return orders, evenly over all shards."""
    aliases = itertools.cycle(settings.SHARD_ALIASES)
    return [order_on(next(aliases)) for _ in range(count)]


def draft(order: TestOrder, version: int, *, type: str = "test.moved", **payload: object) -> EventDraft:  # noqa: A002
    """Return an event of an order's version."""
    return EventDraft(
        type=type,
        aggregate="order",
        aggregate_id=order.order_id,
        version=version,
        user_id=order.user_id,
        order_id=order.order_id,
        payload=payload,
    )


def append_versions(order: TestOrder, versions: Iterable[int], *, type: str = "test.moved") -> None:  # noqa: A002
    """Commit one event for each version, each in a transaction of its own."""
    for version in versions:
        with place_of_order(order.order_id).atomic():
            append(order.alias, draft(order, version, type=type), now=datetime.now(UTC))


@contextmanager
def rolled_back(order: TestOrder) -> Iterator[None]:
    """Open a transaction on the order's shard that fails at its end."""
    with suppress(ZeroDivisionError), place_of_order(order.order_id).atomic():
        yield
        raise ZeroDivisionError


def envelope(order: TestOrder, version: int, *, type: str = "test.moved") -> Envelope:  # noqa: A002
    """Return an event as a consumer gets it."""
    return Envelope(
        event_id=secrets.token_hex(16),
        type=type,
        schema_version=1,
        aggregate="order",
        aggregate_id=order.order_id,
        version=version,
        slot=place_of_order(order.order_id).slot,
        user_id=order.user_id,
        order_id=order.order_id,
        occurred_at=datetime.now(UTC),
        payload={},
        headers={},
    )


def make_log_tables() -> None:
    """Make the table of effects on each shard, which test-only consumers write to."""
    for alias in settings.SHARD_ALIASES:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS test_event_log (id BIGINT AUTO_INCREMENT PRIMARY KEY, "
                "group_name VARCHAR(32), event_id CHAR(32), aggregate_id BIGINT, version INT)"
            )


def log_effects(alias: str, group: str, envelopes: Iterable[Envelope]) -> None:
    """Write effects into the log of a shard, in the open transaction."""
    with connections[alias].cursor() as cursor:
        for item in envelopes:
            cursor.execute(
                "INSERT INTO test_event_log (group_name, event_id, aggregate_id, version) VALUES (%s, %s, %s, %s)",
                [group, item.event_id, item.aggregate_id, item.version],
            )


def log_effect(follow_up: FollowUp, *, group: str) -> None:
    """Write the effect of a follow-up into the log of its shard, in the open transaction."""
    with connections[follow_up.alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO test_event_log (group_name, event_id, aggregate_id, version) VALUES (%s, '', %s, 1)",
            [group, follow_up.order_id],
        )


def logged_versions(group: str, orders: Iterable[TestOrder]) -> dict[int, list[int]]:
    """Return the versions that a group has had its effect of, by order, in the order of the effects."""
    versions: dict[int, list[int]] = {}
    for order in orders:
        with connections[order.alias].cursor() as cursor:
            cursor.execute(
                "SELECT version FROM test_event_log WHERE group_name = %s AND aggregate_id = %s ORDER BY id",
                [group, order.order_id],
            )
            versions[order.order_id] = [row[0] for row in cursor.fetchall()]
    return versions


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60.0, what: str = "the condition") -> None:
    """Poll until a condition holds; fail after the time limit."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.05)
