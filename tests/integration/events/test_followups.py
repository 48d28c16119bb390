"""Follow-ups: owed with the fact, due in time, settled only by who has seen all facts."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from infra.followups.models import FollowUpRow
from infra.followups.services import done, done_all, due, postpone, put_off, schedule
from infra.sharding.places import place_of_order
from tests.factories.events import order_on, orders_on_both_shards, rolled_back

pytestmark = pytest.mark.usefixtures("committed")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_owed(committed):
    for alias in ("shard_0", "shard_1"):
        FollowUpRow.objects.using(alias).filter(kind="test").delete()


def _owe(order, *, due_at=NOW, n=0):
    schedule(place_of_order(order.order_id), kind="test", order_id=order.order_id, n=n, due_at=due_at, now=NOW)


def _due(order, *, now=NOW):
    return [item for item in due(order.alias, kind="test", now=now) if item.order_id == order.order_id]


def test_a_follow_up_is_due_at_its_time_on_its_shard():
    for order in orders_on_both_shards(2):
        _owe(order, due_at=NOW + timedelta(seconds=10))

        assert _due(order) == []
        [found] = _due(order, now=NOW + timedelta(seconds=10))
        assert (found.alias, found.kind, found.n, found.version) == (order.alias, "test", 0, 1)


def test_a_follow_up_vanishes_with_the_fact_that_is_rolled_back():
    order = order_on("shard_1")
    with rolled_back(order):
        _owe(order)

    assert _due(order) == []


def test_a_settled_follow_up_is_gone():
    for order in orders_on_both_shards(2):
        _owe(order)
        [found] = _due(order)

        assert done(found)
        assert _due(order) == []
        assert not done(found)


def test_a_fact_that_comes_while_the_work_is_done_keeps_it_owed():
    for order in orders_on_both_shards(2):
        _owe(order)
        [found] = _due(order)
        _owe(order)

        assert not done(found)
        assert [item.version for item in _due(order)] == [2]


def test_without_the_version_the_later_fact_would_be_lost():
    """The negative control of the compare-and-set."""
    order = order_on("shard_0")
    _owe(order)
    [found] = _due(order)
    _owe(order)

    with connections[order.alias].cursor() as cursor:
        cursor.execute("DELETE FROM followups_followup WHERE slot = %s AND order_id = %s", [found.slot, found.order_id])

    assert _due(order) == []


def test_owing_again_never_makes_it_due_later():
    order = order_on("shard_0")
    _owe(order, due_at=NOW)
    _owe(order, due_at=NOW + timedelta(hours=1))

    assert len(_due(order)) == 1


def test_postponed_work_is_due_again_within_the_recovery_bound(settings):
    order = order_on("shard_1")
    _owe(order)
    for attempt_count in range(1, 12):
        [found] = _due(order, now=NOW + timedelta(hours=1))
        postpone(found, now=NOW, error="provider is away")

        delay_s = min(2.0 ** (attempt_count - 1), settings.FOLLOWUP_MAX_DELAY_S)
        [again] = _due(order, now=NOW + timedelta(hours=1))
        assert again.attempt_count == attempt_count
        assert again.due_at == NOW + timedelta(seconds=delay_s)


def test_work_that_new_facts_made_due_is_not_put_off():
    order = order_on("shard_0")
    _owe(order)
    [found] = _due(order)
    _owe(order)

    postpone(found, now=NOW)
    put_off(found, until=NOW + timedelta(hours=1))

    assert len(_due(order)) == 1


def test_a_batch_settles_what_is_unchanged_and_leaves_the_rest():
    orders = [order_on("shard_0") for _ in range(20)]
    for order in orders:
        _owe(order)
        _owe(order, n=1)
    found = [item for item in due("shard_0", kind="test", now=NOW) if item.n == 0]
    _owe(orders[0])

    assert done_all(found) == 19

    left = due("shard_0", kind="test", now=NOW)
    assert sum(item.n == 1 for item in left) == 20
    assert [item.order_id for item in left if item.n == 0] == [orders[0].order_id]


def test_settling_a_batch_opens_only_the_rows_it_names():
    for order in (orders := [order_on("shard_0") for _ in range(200)]):
        _owe(order)
    condition = "(slot = %s AND order_id = %s AND kind = 'test' AND n = 0 AND version = 1)"
    with connections["shard_0"].cursor() as cursor:
        cursor.execute("ANALYZE TABLE followups_followup")
        cursor.fetchall()
        cursor.execute(
            f"EXPLAIN FORMAT=TRADITIONAL SELECT * FROM followups_followup WHERE {condition} OR {condition}",
            [value for order in orders[:2] for value in (place_of_order(order.order_id).slot, order.order_id)],
        )
        columns = [column[0] for column in cursor.description]
        plan = dict(zip(columns, cursor.fetchone(), strict=True))

    assert plan["key"] == "PRIMARY"
    assert int(plan["rows"]) <= 4
