"""A consumer's loop: batches, retries, dead letters, lines by aggregate, and the inbox."""

import threading
import time
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction

from infra.events import consumers
from infra.events.bus import Feed, Outgoing
from infra.events.consumers import Subscription, subscribe
from infra.events.deadletters import replay
from infra.events.envelope import encode
from infra.events.inbox import InboxOutsideTransaction, InboxRace, first_time, purge_inbox
from infra.events.models import DeadLetter, InboxEntry
from infra.events.redis_bus import RedisEventBus, RedisGroupReader, RedisPublisher
from infra.events.runner import Consumer
from infra.sharding.places import place_of_slot
from tests.factories.events import envelope, log_effects, logged_versions, order_on, orders_on_both_shards

pytestmark = pytest.mark.usefixtures("committed", "bus_of_its_own", "log_tables")


class Group:
    """A group whose effects go to the log of the shard, and that can be told what to fail on."""

    def __init__(self, name):
        self.name = name
        self.poison = set()
        self.away = set()
        self.call_sizes = []
        self.with_inbox = True

    def consume(self, envelopes):
        self.call_sizes.append(len(envelopes))
        [alias] = {place_of_slot(item.slot).alias for item in envelopes}
        if alias in self.away:
            raise OperationalError(2006, "server has gone away")
        with transaction.atomic(using=alias):
            fresh = first_time(alias, self.name, envelopes, now=datetime.now(UTC)) if self.with_inbox else envelopes
            log_effects(alias, self.name, fresh)
            if any((item.aggregate_id, item.version) in self.poison for item in envelopes):
                raise ValueError("poison")

    @property
    def subscription(self):
        return Subscription(group=self.name, types=frozenset({"test.moved"}), consume=self.consume)


class Bus:
    """Publishes envelopes and runs a group's consumer until it is idle."""

    def __init__(self):
        self.batch_number = 0
        self.publisher = RedisPublisher()
        self.publisher.begin_epoch(self._feed())

    def _feed(self):
        return Feed(source="tests", token=1, epoch="e", batch_number=self.batch_number)

    def publish(self, *envelopes):
        self.publisher.publish(
            self._feed(), [Outgoing(slot=item.slot, type=item.type, body=encode(item)) for item in envelopes]
        )
        self.batch_number += 1


@pytest.fixture
def bus(bus_of_its_own):
    return Bus()


@pytest.fixture
def group(request, settings, committed):
    settings.EVENT_MAX_ATTEMPTS = 3
    settings.EVENT_RETRY_MAX_DELAY_S = 0.05
    name = f"t{time.time_ns()}"
    yield Group(name)
    for alias in settings.SHARD_ALIASES:
        DeadLetter.objects.using(alias).filter(group_name=name).delete()


def _consumer(group, name="one"):
    reader = RedisGroupReader(group=group.name, consumer=name, types=frozenset({"test.moved"}))
    return Consumer(group.subscription, reader, threading.Event())


def _run_for(consumer, seconds=0.6):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not consumer.turn():
            time.sleep(0.01)


def _run_until(consumer, condition, *, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        if not consumer.turn():
            time.sleep(0.01)


def _letters(group):
    return [
        (letter.aggregate_version, letter.state)
        for alias in settings.SHARD_ALIASES
        for letter in DeadLetter.objects.using(alias).filter(group_name=group.name).order_by("aggregate_version")
    ]


def test_events_have_their_effect_in_batches_and_in_order(bus, group):
    orders = orders_on_both_shards(10)
    bus.publish(*(envelope(order, version) for version in (1, 2, 3) for order in orders))

    consumer = _consumer(group)
    consumer.turn()

    assert logged_versions(group.name, orders) == {order.order_id: [1, 2, 3] for order in orders}
    assert group.call_sizes == [15, 15]
    assert RedisEventBus().backlog(group.name) == 0


def test_a_repeat_has_no_second_effect(bus, group):
    orders = orders_on_both_shards(4)
    events = [envelope(order, version) for order in orders for version in (1, 2)]
    consumer = _consumer(group)
    bus.publish(*events)
    consumer.turn()

    bus.publish(*events, *events)
    _run_for(consumer, 0.1)

    assert logged_versions(group.name, orders) == {order.order_id: [1, 2] for order in orders}


def test_without_the_inbox_a_repeat_doubles_the_effect(bus, group):
    """The negative control of the inbox."""
    group.with_inbox = False
    order = order_on("shard_0")
    event = envelope(order, 1)
    bus.publish(event, event)

    _consumer(group).turn()

    assert logged_versions(group.name, [order]) == {order.order_id: [1, 1]}


def test_the_inbox_forgets_what_its_transaction_rolled_back(group):
    order = order_on("shard_1")
    event = envelope(order, 1)
    group.poison = {(order.order_id, 1)}
    with pytest.raises(ValueError, match="poison"):
        group.consume([event])

    group.poison = set()
    group.consume([event])
    group.consume([event])

    assert logged_versions(group.name, [order]) == {order.order_id: [1]}


def test_the_inbox_needs_the_transaction_of_the_effect(group):
    with pytest.raises(InboxOutsideTransaction):
        first_time("shard_0", group.name, [envelope(order_on("shard_0"), 1)], now=datetime.now(UTC))


def test_of_two_consumers_that_take_an_event_at_once_one_has_the_effect(group):
    order = order_on("shard_0")
    event = envelope(order, 1)
    barrier = threading.Barrier(2)
    raced = []

    def take():
        barrier.wait()
        try:
            with transaction.atomic(using="shard_0"):
                fresh = first_time("shard_0", group.name, [event], now=datetime.now(UTC))
                log_effects("shard_0", group.name, fresh)
                time.sleep(0.1)
        except InboxRace:
            raced.append(1)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert logged_versions(group.name, [order]) == {order.order_id: [1]}
    assert len(raced) <= 1


def test_the_inbox_serves_inventory_too_and_is_purged_after_its_retention(group):
    event = envelope(order_on("shard_0"), 1)
    for alias in ("inventory", "shard_0"):
        with transaction.atomic(using=alias):
            assert first_time(alias, group.name, [event], now=datetime(2020, 1, 1, tzinfo=UTC)) == [event]

        assert purge_inbox(alias, before=datetime(2020, 1, 2, tzinfo=UTC)) >= 1
        assert not InboxEntry.objects.using(alias).filter(group_name=group.name).exists()


def test_a_dead_letter_parks_later_events_of_its_aggregate_and_others_flow_on(bus, group):
    poisoned, other, *_ = orders = orders_on_both_shards(4)
    group.poison = {(poisoned.order_id, 2)}
    consumer = _consumer(group)
    bus.publish(*(envelope(order, version) for version in (1, 2, 3) for order in orders))
    _run_until(consumer, lambda: len(_letters(group)) == 2)
    bus.publish(envelope(poisoned, 4), envelope(other, 4))
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)

    versions = logged_versions(group.name, orders)
    assert versions[poisoned.order_id] == [1]
    assert versions[other.order_id] == [1, 2, 3, 4]
    assert _letters(group) == [(2, "failed"), (3, "parked"), (4, "parked")]
    assert RedisEventBus().backlog(group.name) == 0


def test_replay_releases_what_was_parked_in_order(bus, group):
    orders = orders_on_both_shards(4)
    group.poison = {(order.order_id, 2) for order in orders}
    consumer = _consumer(group)
    bus.publish(*(envelope(order, version) for version in (1, 2, 3, 4) for order in orders))
    _run_until(consumer, lambda: len(_letters(group)) == 12)
    for alias in settings.SHARD_ALIASES:
        assert replay(alias, group.subscription, limit=100) == (0, 6)

    group.poison = set()
    for alias in settings.SHARD_ALIASES:
        assert replay(alias, group.subscription, limit=100) == (6, 0)
    bus.publish(*(envelope(order, 5) for order in orders))
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)

    assert logged_versions(group.name, orders) == {order.order_id: [1, 2, 3, 4, 5] for order in orders}


def test_the_replay_command_reports_and_leaves_what_fails_again(bus, group, capsys, monkeypatch):
    monkeypatch.setattr(consumers, "_subscriptions", {})
    monkeypatch.setattr(settings, "EVENT_CONSUMERS", [])
    subscribe(group.name, {"test.moved"}, group.consume)
    order = order_on("shard_1")
    group.poison = {(order.order_id, 1)}
    bus.publish(envelope(order, 1))
    _run_until(_consumer(group), lambda: _letters(group) == [(1, "failed")])

    call_command("replay_dead_letters", "--dry-run")
    call_command("replay_dead_letters")
    assert "0 taken, 1 left" in capsys.readouterr().out
    group.poison = set()
    call_command("replay_dead_letters", "--group", group.name)
    assert "1 taken, 0 left" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("replay_dead_letters", "--group", "nobody")


def test_without_parking_a_later_event_would_pass_the_failed_one(bus, group, monkeypatch):
    """The negative control of parking."""
    order = order_on("shard_0")
    group.poison = {(order.order_id, 1)}
    monkeypatch.setattr("infra.events.runner.blocked_aggregates", lambda *_: set())
    consumer = _consumer(group)
    bus.publish(envelope(order, 1))
    _run_until(consumer, lambda: _letters(group) == [(1, "failed")])
    bus.publish(envelope(order, 2))
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)

    assert logged_versions(group.name, [order]) == {order.order_id: [2]}


def test_an_event_that_fails_for_a_while_is_taken_in_its_order(bus, group, settings):
    settings.EVENT_MAX_ATTEMPTS = 1000
    troubled, other = orders_on_both_shards(2)
    group.poison = {(troubled.order_id, 1)}
    consumer = _consumer(group)
    bus.publish(envelope(troubled, 1), envelope(other, 1), envelope(troubled, 2))
    _run_for(consumer, 0.2)
    bus.publish(envelope(troubled, 3), envelope(other, 2))
    _run_until(consumer, lambda: logged_versions(group.name, [other]) == {other.order_id: [1, 2]})
    assert logged_versions(group.name, [troubled]) == {troubled.order_id: []}

    group.poison = set()
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)

    assert logged_versions(group.name, [troubled]) == {troubled.order_id: [1, 2, 3]}
    assert _letters(group) == []


def test_a_shard_that_is_away_holds_up_only_its_own_events(bus, group):
    near, far = order_on("shard_0"), order_on("shard_1")
    group.away = {"shard_1"}
    consumer = _consumer(group)
    for version in (1, 2, 3):
        bus.publish(envelope(far, version), envelope(near, version))
        _run_for(consumer, 0.1)
    _run_until(consumer, lambda: logged_versions(group.name, [near]) == {near.order_id: [1, 2, 3]})
    assert logged_versions(group.name, [far]) == {far.order_id: []}

    group.away = set()
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)

    assert logged_versions(group.name, [far]) == {far.order_id: [1, 2, 3]}
    assert _letters(group) == []


def test_an_outage_is_waited_out_however_long_and_never_dead_lettered(bus, group, settings):
    settings.EVENT_MAX_ATTEMPTS = 1
    order = order_on("shard_0")
    group.away = {"shard_0"}
    consumer = _consumer(group)
    bus.publish(envelope(order, 1))
    _run_for(consumer, 1.5)

    assert _letters(group) == []
    group.away = set()
    _run_until(consumer, lambda: RedisEventBus().backlog(group.name) == 0)
    assert logged_versions(group.name, [order]) == {order.order_id: [1]}


def test_a_consumer_that_dies_with_waiting_events_leaves_them_to_the_next_in_order(bus, group, settings):
    settings.EVENT_LEASE_S = 0.2
    settings.EVENT_MAX_ATTEMPTS = 1000
    order = order_on("shard_0")
    group.poison = {(order.order_id, 1)}
    dead = _consumer(group, "dead")
    bus.publish(*(envelope(order, version) for version in (1, 2, 3)))
    _run_for(dead, 0.1)

    group.poison = set()
    time.sleep(0.25)
    _run_until(_consumer(group, "heir"), lambda: RedisEventBus().backlog(group.name) == 0)

    assert logged_versions(group.name, [order]) == {order.order_id: [1, 2, 3]}


def test_a_group_is_registered_once_and_by_a_proper_name(monkeypatch):
    monkeypatch.setattr(consumers, "_subscriptions", {})
    subscribe("stock", {"order.paid"}, lambda _: None)

    with pytest.raises(ValueError, match="twice"):
        subscribe("stock", {"order.cancelled"}, lambda _: None)
    with pytest.raises(ValueError, match="no name"):
        subscribe("Stock!", {"order.cancelled"}, lambda _: None)
