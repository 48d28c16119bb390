"""Deliveries: owed with the event, claimed by one sender at a time, retried, given up, begun anew."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.db.models import F

from apps.notifications.models import Delivery, DeliveryState, LoggedEvent
from apps.notifications.selectors import target_of
from apps.notifications.services import deliveries
from apps.notifications.services.deliveries import claim_due, settle, try_again
from apps.notifications.services.retention import purge_deliveries, purge_log
from apps.notifications.services.subscriptions import disable, enable
from apps.notifications.types import Outcome
from tests.factories.notifications import clear_notifications, deliveries_of, make_subscription, record_some

URL = "https://shop.example/hook"
OK = Outcome(status=200, error="", retry_after="", took_s=0.1)
FAILED = Outcome(status=None, error="no answer within 5 s", retry_after="", took_s=0.0)
database = pytest.mark.django_db(databases=list(settings.DATABASES))


def now():
    return datetime.now(UTC)


def claim(subscription, count=10, alias="shard_0"):
    return claim_due(alias, {target_of(subscription): count}, now=now())


@database
def test_each_subscription_is_owed_what_it_wants_with_the_event():
    everything, paid, polls = (
        make_subscription(URL),
        make_subscription(URL, types=["order.paid"]),
        make_subscription(""),
    )
    off = make_subscription(URL)
    disable(off.id, reason="a test", now=now())
    record_some("shard_0", 2, type="order.placed")
    record_some("shard_1", 1, type="order.paid")
    assert len(deliveries_of(everything)) == 3
    assert len(deliveries_of(paid)) == 1
    assert deliveries_of(polls) == deliveries_of(off) == []
    enable(off.id)
    record_some("shard_0", 1)
    assert len(deliveries_of(off)) == 1


@database
def test_what_is_claimed_is_not_claimed_again_until_the_claim_has_ended():
    subscription = make_subscription(URL)
    ids = record_some("shard_0", 3)
    first = claim(subscription, 2)
    assert [each.event_id for each in first] == ids[:2]
    assert first[0].body.startswith(f'{{"id":"{ids[0]}"')
    assert [each.event_id for each in claim(subscription)] == ids[2:]
    assert claim(subscription) == []
    Delivery.objects.using("shard_0").update(due_at=now() - timedelta(seconds=1))
    again = claim(subscription)
    assert [each.event_id for each in again] == ids
    # and whoever held them before writes nothing any more
    assert settle("shard_0", [(each, OK) for each in first], now=now()) == 0
    assert {row.state for row in deliveries_of(subscription)} == {DeliveryState.PENDING}
    assert settle("shard_0", [(each, OK) for each in again], now=now()) == 3
    assert {row.state for row in deliveries_of(subscription)} == {DeliveryState.DELIVERED}
    assert claim(subscription) == []


@database
def test_each_subscription_gets_its_places_and_no_more():
    one, other = make_subscription(URL), make_subscription(URL)
    record_some("shard_0", 5)
    claimed = claim_due("shard_0", {target_of(one): 2, target_of(other): 3}, now=now())
    assert sorted(each.target.id for each in claimed) == [one.id] * 2 + [other.id] * 3
    assert claim_due("shard_0", {target_of(one): 0}, now=now()) == []


@database
def test_a_failure_is_due_again_later_and_a_late_one_is_the_end():
    subscription = make_subscription(URL)
    record_some("shard_0", 1)
    [delivery] = claim(subscription)
    settle("shard_0", [(delivery, FAILED)], now=now())
    [row] = deliveries_of(subscription)
    assert (row.state, row.attempt_count, row.last_error) == ("pending", 1, "no answer within 5 s")
    assert timedelta(seconds=3) < row.due_at - now() < timedelta(seconds=6)
    assert claim(subscription) == []

    Delivery.objects.using("shard_0").update(
        due_at=now() - timedelta(seconds=1), created_at=F("created_at") - settings.WEBHOOK_RETRY_PERIOD
    )
    [delivery] = claim(subscription)
    settle("shard_0", [(delivery, Outcome(500, "answered 500", "", 0.1))], now=now())
    [row] = deliveries_of(subscription)
    assert (row.state, row.due_at, row.last_status, row.attempt_count) == ("dead", None, 500, 2)


@database
def test_a_delivery_whose_event_is_gone_is_given_up():
    subscription = make_subscription(URL)
    record_some("shard_0", 1)
    LoggedEvent.objects.using("shard_0").update(logged_at=now() - timedelta(days=30))
    purge_log("shard_0", now=now())
    assert claim(subscription) == []
    [row] = deliveries_of(subscription)
    assert (row.state, row.last_error) == ("dead", "the event is no longer kept")


@database
def test_a_delivery_begins_anew_at_the_staffs_word_even_while_it_is_being_sent():
    subscription = make_subscription(URL)
    record_some("shard_0", 1)
    [delivery] = claim(subscription)
    assert try_again("shard_0", position=delivery.position, subscription_id=subscription.id, now=now())
    assert settle("shard_0", [(delivery, OK)], now=now()) == 0
    [row] = deliveries_of(subscription)
    assert (row.state, row.attempt_count) == ("pending", 0)
    assert not try_again("shard_0", position=delivery.position + 1, subscription_id=subscription.id, now=now())


@database
def test_deliveries_are_kept_for_their_time():
    subscription = make_subscription(URL)
    record_some("shard_0", 2)
    delivered, _ = claim(subscription)
    settle("shard_0", [(delivered, OK)], now=now())
    assert purge_deliveries("shard_0", now=now() + timedelta(hours=23)) == 0
    assert purge_deliveries("shard_0", now=now() + timedelta(hours=25)) == 1
    assert [row.state for row in deliveries_of(subscription)] == ["pending"]
    assert purge_deliveries("shard_0", now=now() + timedelta(days=8)) == 1


@pytest.fixture
def rows_of_its_own(committed):
    clear_notifications()
    yield
    clear_notifications()


def _claims_of_two_senders_at_once(subscription, monkeypatch):
    """Let two senders read what is due before either claims; returns what each got."""
    barrier = threading.Barrier(2)
    token_hex = deliveries.secrets.token_hex
    got: list[list[int]] = []

    def meet(size):
        barrier.wait(20)
        return token_hex(size)

    monkeypatch.setattr(deliveries.secrets, "token_hex", meet)

    def run():
        try:
            got.append([each.position for each in claim(subscription, 20)])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return got


def test_two_senders_at_once_never_get_the_same_delivery(rows_of_its_own, monkeypatch):
    subscription = make_subscription(URL)
    record_some("shard_0", 20)
    one, other = _claims_of_two_senders_at_once(subscription, monkeypatch)
    assert sorted(one + other) == list(range(1, 21))


def test_without_the_condition_on_the_due_time_both_would_take_it(rows_of_its_own, monkeypatch):
    """The control: the same claim by key alone. The later one takes over what the first believes to have."""
    subscription = make_subscription(URL)
    record_some("shard_0", 20)
    cursor_of = deliveries.connections

    class Unguarded:
        def __getitem__(self, alias):
            return UnguardedConnection(cursor_of[alias])

    class UnguardedConnection:
        def __init__(self, connection):
            self._connection = connection

        def __getattr__(self, name):
            return getattr(self._connection, name)

        def cursor(self):
            return UnguardedCursor(self._connection.cursor())

    class UnguardedCursor:
        def __init__(self, cursor):
            self._cursor = cursor

        def __enter__(self):
            self._cursor.__enter__()
            return self

        def __exit__(self, *error):
            return self._cursor.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self._cursor, name)

        def execute(self, statement, parameters):
            if statement.startswith("UPDATE"):
                statement = statement.replace("due_at <= UTC_TIMESTAMP(6) AND", "")
                self._cursor.execute(statement, parameters)
                taken.append(self._cursor.rowcount)
                return
            self._cursor.execute(statement, parameters)

    taken: list[int] = []
    monkeypatch.setattr(deliveries, "connections", Unguarded())
    _claims_of_two_senders_at_once(subscription, monkeypatch)
    assert taken == [20, 20]
