"""Each kind of damage to points, done on purpose, is found; the same data before it is not."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.audit import points
from apps.orders.audit.findings import Finding
from apps.orders.types import OrderView
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.points import CHECKS, complete, findings, grant, refund
from tests.factories.promotions import pay

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

Checking = Callable[[str, datetime], Iterable[Finding]]


@pytest.fixture(params=[0, 1])
def order(request: pytest.FixtureRequest) -> OrderView:
    """A completed order that has used 100 of 500 points, brought 19, and of whose two units one was refunded."""
    buyer = make_buyer(shard=request.param)
    grant(buyer.user_id, 500)
    sku = make_sku(price="10.00")
    order = placed_order(buyer, [(sku, 2)], points=100)
    pay(order)
    complete(order)
    refund(order, "9.50", {sku: 1})
    return order


def run(order: OrderView, sql: str) -> None:
    suffix = Month.of_id(order.id).suffix
    values = {"order": f"orders_order_{suffix}", "entry": f"promotions_points_entry_{suffix}"}
    values |= {"id": order.id, "slot": slot_of(order.id), "user": order.user_id}
    with connections[place_of_order(order.id).alias].cursor() as cursor:
        cursor.execute(sql.format(**values))


DAMAGE: dict[str, tuple[Checking, str]] = {
    "a balance of more": (
        points.balances_are_what_was_booked,
        "UPDATE promotions_points_balance SET balance = balance + 1 WHERE user_id = {user}",
    ),
    "a debt that nobody booked": (
        points.balances_are_what_was_booked,
        "UPDATE promotions_points_balance SET owed = 1 WHERE user_id = {user}",
    ),
    "a lost balance": (
        points.balances_are_what_was_booked,
        "DELETE FROM promotions_points_balance WHERE user_id = {user}",
    ),
    "a lost entry": (
        points.balances_are_what_was_booked,
        "DELETE FROM {entry} WHERE user_id = {user} AND kind = 'granted'",
    ),
    "a lot of less": (
        points.lots_are_what_was_booked,
        "UPDATE promotions_points_lot SET remaining = remaining - 1 WHERE user_id = {user}",
    ),
    "a lost lot": (points.lots_are_what_was_booked, "DELETE FROM promotions_points_lot WHERE user_id = {user}"),
    "a lot of another day": (
        points.lots_are_what_was_booked,
        "UPDATE promotions_points_lot SET expires_on = '2035-01-01' WHERE user_id = {user}",
    ),
    "an entry between accounts that it may not move": (
        points.entries_are_allowed,
        "UPDATE {entry} SET credit = 'expired' WHERE slot = {slot} AND id = {id} AND kind = 'spent'",
    ),
    "an entry without its lot": (
        points.entries_are_allowed,
        "UPDATE {entry} SET lot = NULL WHERE slot = {slot} AND id = {id} AND kind = 'spent'",
    ),
    "an order that used more than was spent": (
        points.points_agree_with_orders,
        "UPDATE {order} SET points_used = 101 WHERE slot = {slot} AND id = {id}",
    ),
    "points used that nobody spent": (
        points.points_agree_with_orders,
        "DELETE FROM {entry} WHERE slot = {slot} AND id = {id}",
    ),
    "points of no order": (
        points.points_agree_with_orders,
        "DELETE FROM {order} WHERE slot = {slot} AND id = {id}",
    ),
    "points of an order of somebody else": (
        points.points_agree_with_orders,
        "UPDATE {order} SET user_id = 1 WHERE slot = {slot} AND id = {id}",
    ),
    "more restored than spent": (
        points.points_agree_with_orders,
        "UPDATE {entry} SET points = 101 WHERE slot = {slot} AND id = {id} AND kind = 'restored'",
    ),
    "more clawed back than earned": (
        points.points_agree_with_orders,
        "UPDATE {entry} SET points = 20 WHERE slot = {slot} AND id = {id} AND kind = 'clawed_back'",
    ),
    "a refunded order whose points did not come back": (
        points.points_agree_with_orders,
        "UPDATE {order} SET status = 'refunded' WHERE slot = {slot} AND id = {id}",
    ),
    "points that came back for nothing": (
        points.points_agree_with_orders,
        "UPDATE {order} SET payment_status = 'paid' WHERE slot = {slot} AND id = {id}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_points_is_found(order: OrderView, damage: str) -> None:
    check, sql = DAMAGE[damage]
    about = (str(order.id), str(order.user_id))
    assert findings(order.user_id, order.id) == []
    run(order, sql)
    found = list(check(place_of_order(order.id).alias, timezone.now()))
    assert [each for each in found if any(word in each.subject for word in about)]


def test_lots_that_are_due_are_found_and_expired(order: OrderView) -> None:
    alias, now = place_of_order(order.id).alias, timezone.now()
    run(order, "UPDATE promotions_points_lot SET expires_on = '2020-01-01' WHERE user_id = {user}")
    [finding] = points.lots_expire(alias, now)
    assert not finding.is_in_flight(now=now, recovering_since=datetime(2020, 1, 1, tzinfo=UTC))
    assert finding.mend is not None
    finding.mend(now)
    assert list(points.lots_expire(alias, now)) == []


def test_a_shard_without_any_points_passes() -> None:
    for check in CHECKS:
        for alias in settings.SHARD_ALIASES:
            assert [each for each in check(alias, timezone.now()) if each.check != "points"] == []
