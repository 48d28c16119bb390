"""Depths and ages as the staff's /metrics shows them, and what a dead source does to them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from prometheus_client import CollectorRegistry, generate_latest

from infra.events import consumers
from infra.events.collector import EventsCollector
from infra.events.consumers import subscribe
from infra.events.deadletters import bury
from infra.events.models import DeadLetter
from infra.followups.models import FollowUpRow
from infra.followups.services import schedule
from infra.outbox.models import OutboxEvent
from infra.sharding.places import place_of_order
from tests.factories.events import append_versions, envelope, order_on

pytestmark = pytest.mark.usefixtures("committed", "bus_of_its_own")


@pytest.fixture(autouse=True)
def only_this_test(committed, settings, monkeypatch):
    settings.EVENT_CONSUMERS = []
    monkeypatch.setattr(consumers, "_subscriptions", {})
    for alias in settings.SHARD_ALIASES:
        for model in (OutboxEvent, DeadLetter, FollowUpRow):
            model.objects.using(alias).all().delete()


def _scrape():
    registry = CollectorRegistry()
    registry.register(EventsCollector())
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_depth_age_dead_letters_and_overdue_work_are_shown_by_shard():
    order = order_on("shard_1")
    append_versions(order, [1, 2, 3])
    OutboxEvent.objects.using("shard_1").update(occurred_at=datetime.now(UTC) - timedelta(seconds=90))
    bury("tests", envelope(order, 1), error="no", attempt_count=5, now=datetime.now(UTC))
    past = datetime.now(UTC) - timedelta(seconds=30)
    schedule(place_of_order(order.order_id), kind="test", order_id=order.order_id, due_at=past, now=past)

    shown = _scrape()

    assert shown['floodgate_outbox_depth{alias="shard_0"}'] == "0.0"
    assert shown['floodgate_outbox_depth{alias="shard_1"}'] == "3.0"
    assert 89 < float(shown['floodgate_outbox_oldest_seconds{alias="shard_1"}']) < 120
    assert shown['floodgate_dead_letters{alias="shard_1",group="tests",state="failed"}'] == "1.0"
    assert shown['floodgate_followups_overdue{alias="shard_1",kind="test"}'] == "1.0"
    assert float(shown['floodgate_followups_oldest_overdue_seconds{alias="shard_1",kind="test"}']) >= 30
    assert shown['floodgate_events_source_up{source="bus"}'] == "1.0"


def test_a_shard_that_is_away_is_told_and_the_other_still_shown(monkeypatch, settings):
    monkeypatch.setitem(connections.settings["shard_0"], "PORT", "1")
    connections["shard_0"].close()
    del connections["shard_0"]
    settings.REDIS_DURABLE_URL = "redis://127.0.0.1:1/0"
    subscribe("tests", {"test.moved"}, lambda _: None)
    try:
        shown = _scrape()
    finally:
        del connections["shard_0"]

    assert shown['floodgate_events_source_up{source="shard_0"}'] == "0.0"
    assert shown['floodgate_events_source_up{source="shard_1"}'] == "1.0"
    assert shown['floodgate_events_source_up{source="bus"}'] == "0.0"
    assert 'floodgate_outbox_depth{alias="shard_0"}' not in shown


def test_a_scrape_soon_after_another_asks_nothing_again(django_assert_num_queries):
    collector = EventsCollector()
    first = list(collector.collect())

    with django_assert_num_queries(0, using="shard_0"), django_assert_num_queries(0, using="shard_1"):
        assert list(collector.collect()) == first
