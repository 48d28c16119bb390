"""Many orders at once on one balance, in real threads: never a point more than there was, and what shows the guard."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from apps.orders.services.cancellation import cancel_order
from apps.orders.services.placement import place_order
from apps.orders.types import OrderView
from apps.promotions.points import services, statements
from apps.promotions.points.errors import GrantTooLarge
from apps.promotions.points.models import PointsLot
from apps.promotions.points.selectors import points_of
from apps.promotions.points.services import expire_lots
from infra.errors import DomainError
from infra.sharding.places import place_of_user
from tests.factories.orders import Buyer, make_buyer, make_sku, order_request
from tests.factories.points import balance, findings, grant

pytestmark = pytest.mark.usefixtures("committed")


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in threads that start together; return what each returned or raised."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        try:
            return task()
        except DomainError as refusal:
            return refusal
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def buying(buyer: Buyer, sku: str, points: int) -> Callable[[], OrderView]:
    request = order_request(buyer, [(sku, 1)], points=points)
    return lambda: place_order(request, now=timezone.now()).order


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("shard", [0, 1])
def test_fifty_orders_at_once_never_overspend(shard: int, batch: int, settings: Any) -> None:
    """Each alone, and in batches, in which those of one shopper are spent for together."""
    settings.ORDER_COMMIT_BATCH = batch
    buyer, sku = make_buyer(shard=shard), make_sku(100, price="100.00")
    grant(buyer.user_id, 100)

    outcomes = at_once([buying(buyer, sku, 10) for _ in range(50)])

    placed = [outcome for outcome in outcomes if isinstance(outcome, OrderView)]
    assert len(placed) == 10
    assert {outcome.code for outcome in outcomes if isinstance(outcome, DomainError)} == {"insufficient_points"}
    assert balance(buyer.user_id) == 0
    assert findings(buyer.user_id, *(order.id for order in placed)) == []


def test_without_the_guard_a_look_before_overspends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: who writes what was read before spends the same points twice."""
    buyer = make_buyer()
    grant(buyer.user_id, 10)
    alias, looked = place_of_user(buyer.user_id).alias, Barrier(2)

    def unguarded() -> bool:
        has, _ = statements.read_balances(alias, [buyer.user_id])[buyer.user_id]
        looked.wait(timeout=30)
        if has < 10:
            return False
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "UPDATE promotions_points_balance SET balance = %s WHERE user_id = %s", [has - 10, buyer.user_id]
            )
        return True

    assert at_once([unguarded, unguarded]) == [True, True]
    assert balance(buyer.user_id) == 0  # twenty were spent of ten
    PointsLot.objects.for_user(buyer.user_id).filter(user_id=buyer.user_id).delete()

    rich = make_buyer()
    grant(rich.user_id, 10)
    looked = Barrier(2)

    def guarded() -> int:
        statements.read_balances(alias, [rich.user_id])
        looked.wait(timeout=30)
        return statements.change_balances(alias, {rich.user_id: (-10, 0)}, now=timezone.now())

    alias = place_of_user(rich.user_id).alias
    assert sorted(at_once([guarded, guarded])) == [0, 1]


def test_placing_and_cancelling_at_once_keeps_the_books(settings: Any) -> None:
    settings.ORDER_COMMIT_BATCH = 8
    buyers = [make_buyer(shard=0) for _ in range(4)]
    sku = make_sku(100, price="100.00")
    for buyer in buyers:
        grant(buyer.user_id, 30)

    def buy_and_cancel(buyer: Buyer, points: int) -> OrderView:
        order = buying(buyer, sku, points)()
        cancel_order(user_id=buyer.user_id, order_id=order.id, reason="", now=timezone.now())
        return order

    outcomes = at_once([lambda b=buyer, n=n: buy_and_cancel(b, n) for buyer in buyers for n in (7, 10, 13, 20)])

    for buyer in buyers:
        assert balance(buyer.user_id) == 30
        assert findings(buyer.user_id, *(each.id for each in outcomes if isinstance(each, OrderView))) == []


def test_grants_at_once_keep_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.MAX_GRANTED, "value", 250)
    buyer = make_buyer()
    outcomes = at_once([lambda: grant(buyer.user_id, 100) for _ in range(8)])
    assert sum(isinstance(outcome, GrantTooLarge) for outcome in outcomes) == 6
    assert balance(buyer.user_id) == 200


def test_sweeps_at_once_expire_a_lot_once() -> None:
    buyer = make_buyer()
    grant(buyer.user_id, 10)
    alias = place_of_user(buyer.user_id).alias
    [(_, day)] = points_of(buyer.user_id).lots
    due = timezone.now().replace(year=day.year, month=day.month, day=day.day)
    at_once([lambda: expire_lots(alias, now=due) for _ in range(4)])
    assert balance(buyer.user_id) == 0
    assert findings(buyer.user_id) == []
