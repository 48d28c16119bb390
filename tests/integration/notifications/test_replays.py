"""Replays: past events are owed again, in rounds that can be broken off anywhere."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from apps.notifications.errors import SubscriptionRefused
from apps.notifications.models import LoggedEvent, Replay
from apps.notifications.services import replays
from apps.notifications.services.replays import drive_replays
from apps.notifications.services.subscriptions import request_replay
from tests.factories.notifications import deliveries_of, make_subscription, record_some

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

URL = "https://shop.example/hook"


def now():
    return datetime.now(UTC)


def ask(subscription, *, hours=1):
    return request_replay(
        subscription.id, since=now() - timedelta(hours=hours), reason="an outage", requested_by="mia", now=now()
    )


def test_all_events_of_its_types_since_a_time_are_owed(settings):
    settings.WEBHOOK_REPLAY_BATCH = 2
    old = record_some("shard_0", 2)
    LoggedEvent.objects.using("shard_0").filter(event_id__in=old).update(logged_at=now() - timedelta(hours=2))
    record_some("shard_0", 3, type="order.paid")
    record_some("shard_0", 2, type="order.placed")
    record_some("shard_1", 3, type="order.paid")
    subscription = make_subscription(URL, types=["order.paid"])
    replay = ask(subscription)
    assert drive_replays(now=now()) == 6
    assert {row.state for row in deliveries_of(subscription)} == {"pending"}
    assert len(deliveries_of(subscription)) == 6
    replay.refresh_from_db()
    assert (replay.found_count, replay.finished_at is not None) == (6, True)
    assert drive_replays(now=now()) == 0


def test_a_round_that_is_broken_off_goes_on_where_it_was(settings, monkeypatch):
    settings.WEBHOOK_REPLAY_BATCH = 1
    record_some("shard_0", 4)
    subscription = make_subscription(URL)
    replay = ask(subscription)
    owe, batches = replays._owe_batch, []

    def owe_two(*args, **kwargs):
        batches.append(1)
        if len(batches) == 3:
            raise ZeroDivisionError
        return owe(*args, **kwargs)

    monkeypatch.setattr(replays, "_owe_batch", owe_two)
    monkeypatch.setattr("infra.followups.rounds.connections.close_all", lambda: None)
    assert drive_replays(now=now()) == 2
    replay.refresh_from_db()
    assert replay.finished_at is None
    monkeypatch.setattr(replays, "_owe_batch", owe)
    assert drive_replays(now=now()) == 2
    assert len(deliveries_of(subscription)) == 4
    replay.refresh_from_db()
    assert (replay.found_count, replay.finished_at is not None) == (4, True)


def test_a_second_driver_of_a_replay_stops(monkeypatch):
    record_some("shard_0", 1)
    replay = ask(make_subscription(URL))
    Replay.objects.filter(id=replay.id).update(version=7)
    assert replays._advance(replay, {"shard_0": [9, 9]}, 1) is False
    replay.refresh_from_db()
    assert replay.progress == {}


def test_what_makes_no_sense_is_refused():
    subscription, polls = make_subscription(URL), make_subscription("")
    with pytest.raises(SubscriptionRefused, match="address"):
        ask(polls)
    with pytest.raises(SubscriptionRefused, match="7 days"):
        ask(subscription, hours=24 * 7 + 1)
    with pytest.raises(SubscriptionRefused, match="to come"):
        ask(subscription, hours=-1)
    ask(subscription)
    with pytest.raises(SubscriptionRefused, match="under way"):
        ask(subscription)
