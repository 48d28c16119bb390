"""The outbox: events commit with their fact, in order, and leave after their retention."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from infra.observability.scope import begin_scope, end_scope
from infra.outbox.errors import AppendOutsideTransaction
from infra.outbox.models import OutboxEvent
from infra.outbox.services import append, new_event_ids, purge_sent
from infra.sharding.places import place_of_order
from tests.factories.events import draft, order_on, orders_on_both_shards, rolled_back

pytestmark = pytest.mark.usefixtures("committed")


def _events_of(order):
    return list(OutboxEvent.objects.using(order.alias).filter(aggregate_id=order.order_id).order_by("id"))


def test_an_event_commits_on_the_shard_of_its_fact():
    now = datetime.now(UTC)
    for order in orders_on_both_shards(2):
        place = place_of_order(order.order_id)

        with place.atomic():
            append(place, draft(order, 1, city="Leeds"), draft(order, 2), now=now)

        first, second = _events_of(order)
        assert (first.aggregate_version, second.aggregate_version) == (1, 2)
        assert first.slot == place.slot
        assert first.occurred_at == now
        assert first.payload == '{"city":"Leeds"}'
        assert first.sent_at is None


def test_an_event_vanishes_with_the_fact_that_is_rolled_back():
    for order in orders_on_both_shards(2):
        with rolled_back(order):
            append(order.alias, draft(order, 1), now=datetime.now(UTC))

        assert _events_of(order) == []


def test_an_event_without_a_transaction_is_refused():
    order = order_on("shard_1")

    with pytest.raises(AppendOutsideTransaction):
        append("shard_1", draft(order, 1), now=datetime.now(UTC))

    assert _events_of(order) == []


def test_the_events_of_a_batch_are_one_insert():
    orders = [order_on("shard_0") for _ in range(64)]
    with CaptureQueriesContext(connections["shard_0"]) as queries, place_of_order(orders[0].order_id).atomic():
        append("shard_0", *(draft(order, 1) for order in orders), now=datetime.now(UTC))

    assert sum("INSERT INTO outbox_event" in query["sql"] for query in queries) == 1


def test_events_carry_the_request_that_caused_them():
    order = order_on("shard_0")
    begin_scope(request_id="request-0815")
    try:
        with place_of_order(order.order_id).atomic():
            append("shard_0", draft(order, 1), now=datetime.now(UTC))
    finally:
        end_scope()

    assert '"request_id":"request-0815"' in _events_of(order)[0].headers


def test_event_ids_begin_with_the_time_and_do_not_repeat():
    earlier = new_event_ids(1000, datetime(2026, 11, 1, tzinfo=UTC))
    later = new_event_ids(1000, datetime(2026, 11, 2, tzinfo=UTC))

    assert len({*earlier, *later}) == 2000
    assert max(earlier) < min(later)
    assert all(len(event_id) == 32 and event_id[12] == "7" and event_id[16] in "89ab" for event_id in earlier)


def test_only_sent_events_beyond_their_retention_are_purged(settings):
    settings.PURGE_BATCH_ROWS = 2
    now = datetime.now(UTC)
    for order in orders_on_both_shards(2):
        with place_of_order(order.order_id).atomic():
            append(order.alias, *(draft(order, version) for version in range(1, 9)), now=now)
        rows = OutboxEvent.objects.using(order.alias).filter(aggregate_id=order.order_id)
        rows.filter(aggregate_version__lte=5).update(sent_at=now - timedelta(days=2))
        rows.filter(aggregate_version=6).update(sent_at=now)

        assert purge_sent(order.alias, before=now - timedelta(days=1)) >= 5

        assert [event.aggregate_version for event in _events_of(order)] == [6, 7, 8]
