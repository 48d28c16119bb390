"""The relay: order, at least once, one at a time, and feeding a bus that has lost its memory again."""

import secrets
import threading
import time
from datetime import UTC, datetime

import pytest
import redis
from django.conf import settings
from django.db import connections, transaction

from infra.events.bus import BusUnavailable
from infra.events.envelope import PARTITION_COUNT
from infra.events.redis_bus import RedisGroupReader, RedisPublisher
from infra.outbox.errors import RelayLeaseLost
from infra.outbox.models import OutboxEvent, Relay
from infra.outbox.relay import OutboxRelay
from infra.outbox.services import append
from tests.factories.events import append_versions, draft, order_on

pytestmark = pytest.mark.usefixtures("committed", "bus_of_its_own", "empty_outboxes")


@pytest.fixture
def empty_outboxes(committed):
    for alias in settings.SHARD_ALIASES:
        OutboxEvent.objects.using(alias).all().delete()
        Relay.objects.using(alias).all().delete()


@pytest.fixture
def reader(bus_of_its_own):
    reader = RedisGroupReader(group="tests", consumer="reader", types=frozenset({"test.moved"}))
    reader.balance()
    return reader


def _relay(alias="shard_0"):
    return OutboxRelay(alias, publisher=RedisPublisher(), holder=secrets.token_hex(4), stopped=threading.Event())


def _run_dry(relay):
    while relay.turn() or relay.turn():
        pass


def _arrived(reader):
    deliveries = []
    while batch := reader.fetch(partitions=range(PARTITION_COUNT), limit=1000):
        deliveries += batch
    return deliveries


def _versions_of(order, deliveries):
    return [item.envelope.version for item in deliveries if item.envelope.aggregate_id == order.order_id]


def _unsent(alias):
    return OutboxEvent.objects.using(alias).filter(sent_at=None).count()


def test_events_of_both_shards_arrive_in_the_order_of_their_versions(reader):
    orders = [order_on(alias) for alias in settings.SHARD_ALIASES for _ in range(5)]
    for version in (1, 2, 3):
        for order in orders:
            append_versions(order, [version])

    for alias in settings.SHARD_ALIASES:
        _run_dry(_relay(alias))

    deliveries = _arrived(reader)
    assert [_versions_of(order, deliveries) for order in orders] == [[1, 2, 3]] * 10
    assert [_unsent(alias) for alias in settings.SHARD_ALIASES] == [0, 0]


def test_more_events_than_a_batch_leave_in_order(reader, settings):
    settings.RELAY_BATCH = 7
    order = order_on("shard_1")
    append_versions(order, range(1, 31))

    _run_dry(_relay("shard_1"))

    assert _versions_of(order, _arrived(reader)) == list(range(1, 31))


def test_a_lower_id_that_commits_later_is_not_passed_over(reader):
    late, early = order_on("shard_0"), order_on("shard_0")
    relay = _relay()
    _run_dry(relay)
    begun, go_on = threading.Event(), threading.Event()

    def commit_late():
        with transaction.atomic(using="shard_0"):
            append("shard_0", draft(late, 1), now=datetime.now(UTC))
            begun.set()
            assert go_on.wait(10)
        connections.close_all()

    thread = threading.Thread(target=commit_late)
    thread.start()
    assert begun.wait(10)
    append_versions(early, [1])
    _run_dry(relay)
    assert _versions_of(early, _arrived(reader)) == [1]

    go_on.set()
    thread.join()
    _run_dry(relay)

    assert _versions_of(late, _arrived(reader)) == [1]


def test_a_batch_that_was_published_but_not_marked_is_published_again(reader, monkeypatch):
    order = order_on("shard_0")
    append_versions(order, [1, 2])
    relay = _relay()
    relay.turn()

    def die(*_):
        raise SystemExit

    monkeypatch.setattr(relay, "_mark", die)
    with pytest.raises(SystemExit):
        relay.turn()
    assert _unsent("shard_0") == 2
    monkeypatch.undo()
    _run_dry(relay)

    assert _versions_of(order, _arrived(reader)) == [1, 2, 1, 2]
    assert _unsent("shard_0") == 0


def test_a_second_relay_stands_by_until_the_lease_ends(settings):
    settings.EVENT_LEASE_S = 0.3
    first, second = _relay(), _relay()

    assert first.turn() is not None
    assert second.turn() is None
    time.sleep(0.35)
    assert second.turn() is not None

    append_versions(order_on("shard_0"), [1])
    with pytest.raises(RelayLeaseLost):
        first.turn()


def test_a_stalled_relay_is_refused_by_the_bus_even_before_it_looks_at_its_lease(settings, monkeypatch):
    """It has read its batch, stalls, and comes back after its successor has published."""
    settings.EVENT_LEASE_S = 0.3
    order = order_on("shard_0")
    stalled, successor = _relay(), _relay()
    _run_dry(stalled)
    append_versions(order, [1])
    read = stalled._next_rows

    def read_and_stall(state):
        rows = read(state)
        time.sleep(0.35)
        append_versions(order, [2])
        _run_dry(successor)
        return rows

    monkeypatch.setattr(stalled, "_next_rows", read_and_stall)
    reader = RedisGroupReader(group="tests", consumer="reader", types=frozenset({"test.moved"}))
    reader.balance()

    with pytest.raises(Exception, match="shard_0"):
        stalled.turn()

    assert _versions_of(order, _arrived(reader)) == [1, 2]


def test_without_the_lease_two_relays_publish_everything_twice(reader, monkeypatch):
    """The negative control of lease and token."""
    order = order_on("shard_0")
    first, second = _relay(), _relay()
    _run_dry(first)
    append_versions(order, [1, 2])
    second._state, second._holder = first._state, first._holder
    for relay in (first, second):
        monkeypatch.setattr(relay, "_mark", lambda *_: None)

    first.turn()
    second.turn()

    assert _versions_of(order, _arrived(reader)) == [1, 2, 1, 2]


def test_an_emptied_bus_is_fed_again_in_order_before_anything_new(reader, settings):
    settings.RELAY_BATCH = 4
    order = order_on("shard_0")
    relay = _relay()
    append_versions(order, range(1, 11))
    _run_dry(relay)
    assert len(_arrived(reader)) == 10
    client = redis.Redis.from_url(settings.REDIS_DURABLE_URL)
    for key in client.scan_iter(f"{settings.EVENT_BUS_PREFIX}:*"):
        client.delete(key)

    append_versions(order, [11, 12])
    _run_dry(relay)
    append_versions(order, [13])
    _run_dry(relay)

    reader.restart()
    reader.balance()
    assert _versions_of(order, _arrived(reader)) == list(range(1, 14))
    assert _unsent("shard_0") == 0


def test_feeding_again_goes_on_where_a_dead_relay_left_it(reader, settings):
    settings.RELAY_BATCH = 4
    settings.EVENT_LEASE_S = 0.2
    order = order_on("shard_1")
    append_versions(order, range(1, 13))
    dead = _relay("shard_1")
    dead.turn()
    assert dead.turn() == 4
    time.sleep(0.25)

    _run_dry(_relay("shard_1"))

    assert _versions_of(order, _arrived(reader)) == list(range(1, 13))


def test_an_idle_relay_notices_an_emptied_bus_by_itself(reader, monkeypatch):
    order = order_on("shard_0")
    append_versions(order, [1])
    relay = _relay()
    _run_dry(relay)
    client = redis.Redis.from_url(settings.REDIS_DURABLE_URL)
    for key in client.scan_iter(f"{settings.EVENT_BUS_PREFIX}:*"):
        client.delete(key)

    monkeypatch.setattr("infra.outbox.relay._ASK_INTERVAL_S", 0.0)
    _run_dry(relay)

    reader.restart()
    reader.balance()
    assert _versions_of(order, _arrived(reader)) == [1]


def test_while_the_bus_is_away_nothing_is_marked_and_nothing_raised(reader, monkeypatch):
    order = order_on("shard_0")
    append_versions(order, [1])
    stopped = threading.Event()
    relay = OutboxRelay("shard_0", publisher=RedisPublisher(), holder="one", stopped=stopped)
    away = threading.Event()
    publish = relay._publisher.publish

    def publish_unless_away(feed, batch):
        if not away.is_set():
            raise BusUnavailable("away")
        publish(feed, batch)

    monkeypatch.setattr(relay._publisher, "publish", publish_unless_away)
    thread = threading.Thread(target=relay.run)
    thread.start()
    time.sleep(0.3)
    assert _unsent("shard_0") == 1

    away.set()
    deadline = time.monotonic() + 10
    while _unsent("shard_0") and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.set()
    thread.join()

    assert _versions_of(order, _arrived(reader)) == [1]


def test_a_relay_that_stops_gives_its_lease_up(reader):
    stopped = threading.Event()
    relay = OutboxRelay("shard_0", publisher=RedisPublisher(), holder="one", stopped=stopped)
    thread = threading.Thread(target=relay.run)
    thread.start()
    deadline = time.monotonic() + 10
    while not Relay.objects.using("shard_0").filter(holder="one").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    stopped.set()
    thread.join()

    assert _relay().turn() is not None


def test_looking_for_unsent_events_does_not_walk_over_the_sent_ones():
    order = order_on("shard_0")
    for start in range(1, 1001, 200):
        with transaction.atomic(using="shard_0"):
            append("shard_0", *(draft(order, start + at) for at in range(200)), now=datetime.now(UTC))
    OutboxEvent.objects.using("shard_0").update(sent_at=datetime.now(UTC))
    append_versions(order, [1001])
    relay = _relay()
    _run_dry(relay)

    before = _rows_read("shard_0")
    relay._next_rows(relay._state)

    assert _rows_read("shard_0") - before < 200


def _rows_read(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in cursor.fetchall())
