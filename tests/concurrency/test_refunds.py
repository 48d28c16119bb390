"""Refund requests at once: never more than was bought and captured, and what would happen without each guard."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.utils import timezone

from apps.orders.errors import OrderChanged
from apps.orders.models import Order
from apps.orders.selectors import find_order
from apps.orders.services import refunds as refund_service
from apps.orders.services.refunds import approve_refund, reject_refund, request_refund
from apps.orders.services.stock import sync_due_stock
from apps.payments.selectors import get_attempt, refunds_of
from apps.payments.services import refunds as payment_refunds
from apps.payments.types import AttemptView
from infra.errors import DomainError
from infra.sharding.places import Place, place_of_order
from tests.factories.inventory import counters
from tests.factories.orders import make_sku
from tests.factories.payments import ask_refund, paid_order, refund_request, send_some

pytestmark = pytest.mark.usefixtures("committed")


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in threads that start together; return what each returned or raised."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        try:
            return task()
        except (DomainError, OrderChanged, DatabaseError) as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def told(outcomes: Sequence[object]) -> Counter[str]:
    return Counter(type(outcome).__name__ for outcome in outcomes)


@pytest.mark.parametrize("shard", [0, 1])
@pytest.mark.parametrize("sent", ["none", "partial"])
def test_twenty_requests_at_once_get_exactly_what_was_bought(shard, sent):
    # given an order of seven, sent or not
    sku = make_sku(10, price="3.33")
    order = paid_order([(sku, 7)], shard=shard, line_discounts=["0.05"])
    if sent != "none":
        send_some(order.id, sent)
    # when twenty requests for two of them come at once
    outcomes = at_once([lambda: ask_refund(order, (sku, 2))] * 20)
    # then three have theirs, the others are told, and the last one can still be asked for
    assert told(outcomes) == {"RefundView": 3, "RefundTooLarge": 17}
    assert ask_refund(order, (sku, 1)).n == 4
    assert get_attempt(order.id, 1).refund_claimed == order.total
    assert sum(refund.amount for refund in refunds_of(order.id)) == order.total
    sync_due_stock(now=timezone.now())
    assert counters(sku) == ((10, 0) if sent == "none" else (3, 0))


def test_one_key_at_once_makes_one_refund():
    sku = make_sku(10)
    order = paid_order([(sku, 9)])
    request = refund_request(order, [(sku, 1)], key="k")
    outcomes = at_once([lambda: request_refund(request, render=lambda r: r.refund_id.encode(), now=timezone.now())] * 8)
    assert {outcome.body for outcome in outcomes} == {f"re_{order.id}_1".encode()}
    assert sorted(outcome.replayed for outcome in outcomes) == [False] + [True] * 7


def test_a_request_is_decided_by_one_of_two_members_of_staff():
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    send_some(order.id)
    refund = ask_refund(order, (sku, 1))
    services = [approve_refund, reject_refund] * 3
    outcomes = at_once(
        [
            lambda service=service: service(
                order_id=order.id, n=refund.n, reason="", actor="staff:1", now=timezone.now()
            )
            for service in services
        ]
    )
    assert told(outcomes) == {"RefundView": 1, "RefundNotOpen": 5}


def test_without_the_orders_lock_requests_at_once_are_judged_by_what_is_no_longer_so(monkeypatch):
    """Negative control: each reads before any has written, and only the compare-and-set saves the money."""
    sku = make_sku(10)
    order = paid_order([(sku, 7)])
    barrier = Barrier(4)

    def read_together(place: Place, order_id: int) -> Order | None:
        barrier.wait(timeout=30)
        return find_order(order_id)

    monkeypatch.setattr(refund_service, "lock_order", read_together)
    outcomes = told(at_once([lambda: ask_refund(order, (sku, 1))] * 4))
    assert outcomes["RefundView"] == 1
    assert "OrderChanged" in outcomes


def test_the_guarded_update_refuses_what_a_stale_reading_would_allow(monkeypatch):
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    before = get_attempt(order.id, 1)
    ask_refund(order, (sku, 2))
    place = place_of_order(order.id)

    def stale(order_id: int, n: int) -> AttemptView | None:
        return before

    monkeypatch.setattr(payment_refunds, "get_attempt", stale)
    with place.atomic(), pytest.raises(refund_service.RefundTooLarge):
        payment_refunds.create_refund(
            place, order_id=order.id, attempt_n=1, amount=Decimal("0.01"), reason="", now=timezone.now()
        )
