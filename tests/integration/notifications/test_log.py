"""The log of events: once, in the order of the commits, read without a gap, kept for a while."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import OperationalError, connections

from apps.notifications import selectors
from apps.notifications.errors import PositionGone
from apps.notifications.models import LoggedEvent, LogHead
from apps.notifications.selectors import events_after
from apps.notifications.services import recording
from apps.notifications.services.recording import record_events
from apps.notifications.services.retention import purge_log
from apps.notifications.services.subscriptions import disable
from infra.events.inbox import InboxRace
from tests.factories.events import order_on
from tests.factories.notifications import (
    clear_notifications,
    deliveries_of,
    make_subscription,
    order_event,
    record_some,
)

ALL = frozenset()
database = pytest.mark.django_db(databases=list(settings.DATABASES))


def read_all(positions=None, *, types=ALL, limit=100):
    """Read until there is no more; returns the ids of the events and the positions."""
    ids, positions = [], positions or {}
    while True:
        page = events_after(positions, event_types=types, limit=limit)
        ids += [json.loads(body)["id"] for body in page.bodies]
        positions = page.positions
        if not page.more:
            return ids, positions


@database
def test_each_event_is_logged_once_in_its_order_whatever_comes_again():
    order = order_on("shard_0")
    events = [order_event(order, version) for version in (1, 2, 3)]
    assert record_events(events[:2], now=datetime.now(UTC)) == 2
    assert record_events(events, now=datetime.now(UTC)) == 1
    assert record_events(events, now=datetime.now(UTC)) == 0
    rows = LoggedEvent.objects.using("shard_0").order_by("position")
    assert [row.event_id for row in rows] == [event.event_id for event in events]
    positions = [row.position for row in rows]
    assert positions == list(range(positions[0], positions[0] + 3))
    assert [row.logged_at for row in rows] == sorted(row.logged_at for row in rows)


@database
def test_nothing_is_logged_for_nobody_and_everything_from_the_first_subscription_on(settings):
    settings.EVENTS_LOG_ALWAYS = False
    record_some("shard_0", 1)
    assert read_all()[0] == []
    subscription = make_subscription("")
    ids = record_some("shard_0", 2)
    disable(subscription.id, reason="a test", now=datetime.now(UTC))
    ids += record_some("shard_0", 1)
    assert read_all()[0] == ids


@database
def test_while_the_subscriptions_cannot_be_read_the_last_known_ones_hold(monkeypatch):
    subscription = make_subscription("https://shop.example/")
    record_some("shard_0", 1)

    def fail(*_):
        raise OperationalError(2006, "gone")

    monkeypatch.setattr(selectors.Subscription.objects, "values_list", fail)
    monkeypatch.setattr(connections["default"], "close", lambda: None)
    record_some("shard_0", 1)
    assert len(deliveries_of(subscription)) == 2
    monkeypatch.setattr(selectors._known, "audience", None)
    with pytest.raises(OperationalError):
        record_some("shard_0", 1)


@database
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_of_any_length_show_all_shards_events_once(limit):
    ids = [record_some(alias, count) for alias, count in (("shard_0", 3), ("shard_1", 2), ("shard_0", 2))]
    found, positions = read_all(limit=limit)
    assert sorted(found) == sorted(itertools.chain(*ids))
    assert [each for each in found if each in ids[0]] == ids[0]
    assert read_all(positions, limit=limit)[0] == []
    later = record_some("shard_1", 2)
    assert read_all(positions, limit=limit)[0] == later


@database
def test_a_reader_of_some_types_goes_on_through_what_is_not_for_it(settings):
    settings.EVENTS_LOG_WINDOW = 4
    record_some("shard_0", 10, type="order.placed")
    wanted = record_some("shard_0", 1, type="order.paid")
    record_some("shard_0", 5, type="order.placed")
    page = events_after({}, event_types=frozenset({"order.paid"}), limit=100)
    assert (page.bodies, page.more) == ([], True)
    assert read_all(types=frozenset({"order.paid"}))[0] == wanted


@database
def test_a_shard_that_is_away_keeps_its_place(monkeypatch):
    first, second = record_some("shard_0", 2), record_some("shard_1", 2)
    read = selectors._shard_events

    def without_shard_1(alias, *args, **kwargs):
        if alias == "shard_1":
            raise OperationalError(2006, "gone")
        return read(alias, *args, **kwargs)

    monkeypatch.setattr(selectors, "_shard_events", without_shard_1)
    found, positions = read_all()
    assert found == first
    monkeypatch.setattr(selectors, "_shard_events", read)
    assert read_all(positions)[0] == second


@database
def test_a_reader_whose_events_are_purged_is_told_and_a_new_one_begins_with_what_is_kept(settings):
    old, kept = record_some("shard_0", 3), record_some("shard_0", 2)
    before = events_after({}, event_types=ALL, limit=2).positions
    long_ago = datetime.now(UTC) - timedelta(days=settings.EVENTS_LOG_RETENTION_DAYS, seconds=1)
    LoggedEvent.objects.using("shard_0").filter(event_id__in=old).update(logged_at=long_ago)
    assert purge_log("shard_0", now=datetime.now(UTC)) == 3
    with pytest.raises(PositionGone):
        events_after(before, event_types=ALL, limit=2)
    assert read_all()[0] == kept
    assert purge_log("shard_0", now=datetime.now(UTC)) == 0


@database
def test_a_purge_says_how_far_it_goes_before_it_deletes(monkeypatch, settings):
    """Else a reader could find a gap and take it for the end."""
    record_some("shard_0", 2)
    LoggedEvent.objects.using("shard_0").update(logged_at=datetime.now(UTC) - timedelta(days=30))
    seen = []

    def delete(alias, **_):
        seen.append(LogHead.objects.using(alias).get().purged_through)
        return 0

    monkeypatch.setattr("apps.notifications.services.retention.delete_older", delete)
    purge_log("shard_0", now=datetime.now(UTC))
    assert seen == [LogHead.objects.using("shard_0").get().position]


class Halves:
    """Two consumers of one shard's log: the first stops between its writes and its commit until it is told to go on."""

    def __init__(self, monkeypatch):
        self.written, self.go_on = threading.Event(), threading.Event()
        owe = recording._owe

        def owe_and_stop(alias, *args, **kwargs):
            owe(alias, *args, **kwargs)
            if threading.current_thread().name == "first":
                self.written.set()
                assert self.go_on.wait(20)

        monkeypatch.setattr(recording, "_owe", owe_and_stop)
        self.threads = []

    def begin(self, name, event):
        def run():
            try:
                record_events([event], now=datetime.now(UTC))
            finally:
                connections.close_all()

        thread = threading.Thread(target=run, name=name)
        thread.start()
        self.threads.append(thread)
        return thread

    def end(self):
        self.go_on.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def log_of_its_own(committed):
    clear_notifications()
    yield
    clear_notifications()


def test_a_reader_never_passes_a_row_that_commits_later(log_of_its_own, monkeypatch):
    # given two consumers of different partitions, the first of which has its position and has not committed
    record_some("shard_0", 1)
    first, second = order_event(order_on("shard_0"), 1), order_event(order_on("shard_0"), 1)
    halves = Halves(monkeypatch)
    halves.begin("first", first)
    assert halves.written.wait(20)
    behind = halves.begin("second", second)

    # when the second has had its time, and a reader reads to the end
    behind.join(0.5)
    _, positions = read_all()

    # then the second still waits for the first, and the reader misses neither of them afterwards
    assert behind.is_alive()
    halves.end()
    assert read_all(positions)[0] == [first.event_id, second.event_id]


def test_with_positions_taken_without_the_lock_a_reader_misses_a_row(log_of_its_own, monkeypatch):
    """The control: positions as AUTO_INCREMENT gives them, in the order of the writes instead of the commits."""
    record_some("shard_0", 1)
    numbers = itertools.count(2)
    head = LogHead.objects.using("shard_0").get()

    def take_number(alias, count):
        return next(numbers), head.moved_at

    monkeypatch.setattr(recording, "_advance_head", take_number)
    first, second = order_event(order_on("shard_0"), 1), order_event(order_on("shard_0"), 1)
    halves = Halves(monkeypatch)
    halves.begin("first", first)
    assert halves.written.wait(20)
    halves.begin("second", second).join(20)
    LogHead.objects.using("shard_0").update(position=3)
    found, positions = read_all()
    halves.end()
    assert second.event_id in found
    assert first.event_id not in read_all(positions)[0], "it was passed by, for ever"


def test_many_consumers_at_once_leave_no_gap_and_a_reader_beside_them_sees_every_event_once(log_of_its_own):
    # given
    ids: list[str] = []
    done = threading.Event()

    def consume(number):
        try:
            for version in range(1, 11):
                events = [order_event(order_on("shard_0"), version) for _ in range(3)]
                while True:
                    try:
                        record_events(events, now=datetime.now(UTC))
                        break
                    except InboxRace:
                        continue
                ids.extend(event.event_id for event in events)
        finally:
            connections.close_all()

    found: list[str] = []

    def read():
        positions = {}
        try:
            while True:
                last = done.is_set()
                more, positions = read_all(positions, limit=7)
                found.extend(more)
                if last:
                    return
        finally:
            connections.close_all()

    # when
    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(consume, range(6)))
    done.set()
    reader.join(30)

    # then
    assert sorted(found) == sorted(ids)
    positions = list(LoggedEvent.objects.using("shard_0").order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, 6 * 10 * 3 + 1))


def test_a_batch_that_fails_leaves_nothing_and_no_gap(log_of_its_own, monkeypatch):
    record_some("shard_0", 1)
    events = [order_event(order_on("shard_0"), 1)]
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_owe", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            record_events(events, now=datetime.now(UTC))
    assert record_events(events, now=datetime.now(UTC)) == 1
    assert list(LoggedEvent.objects.using("shard_0").order_by("position").values_list("position", flat=True)) == [1, 2]
