"""Shipping at once, in real threads: no unit is shipped twice, and what is collected is not cancelled."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone

from apps.orders.errors import OrderChanged
from apps.orders.fulfillment import ShipmentStatus
from apps.orders.selectors import find_order
from apps.orders.services import changing, shipping, transitions
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.receipt import confirm_receipt
from apps.orders.shipment_selectors import shipments_of
from apps.orders.types import OrderView
from apps.payments.selectors import refunds_of
from infra.errors import DomainError
from tests.factories.orders import event_versions
from tests.factories.shipping import paid_order, prepare, reload, shipped, statuses

pytestmark = pytest.mark.usefixtures("committed")


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in threads that start together; return what each returned or the refusal that it raised."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        try:
            return task()
        except (DomainError, OrderChanged) as refusal:
            return refusal
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def told(outcomes: Sequence[object]) -> list[str]:
    return sorted(type(outcome).__name__ for outcome in outcomes)


def shipped_units(order: OrderView) -> int:
    return sum(share.units for shipment in shipments_of(order.id) for share in shipment.items)


@pytest.mark.parametrize("shard", [0, 1])
def test_of_two_shipments_of_the_last_unit_at_once_one_is_made(shard: int) -> None:
    order = paid_order((1,), shard=shard)
    outcomes = at_once([lambda: prepare(order)] * 2)
    assert told(outcomes) == ["OrderNotShippable", "ShipmentView"]
    assert shipped_units(order) == 1


def test_many_shipments_of_single_units_at_once_ship_what_was_bought() -> None:
    order = paid_order((5,))
    sku = order.items[0].sku
    outcomes = at_once([lambda: prepare(order, items={sku: 1})] * 8)
    assert told(outcomes) == ["OrderNotShippable"] * 3 + ["ShipmentView"] * 5
    assert shipped_units(order) == 5
    assert [version for version, _ in event_versions(order.id)] == list(range(1, 9))


@pytest.mark.parametrize("without", ["lock", "lock and compare-and-set"])
def test_what_keeps_a_unit_from_being_shipped_twice(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: both read that one unit is left. Without the lock the compare-and-set knows, else nothing."""
    order = paid_order((1,))
    read, barrier = shipping.goods_of, Barrier(2)

    def together(row: Any) -> Any:
        goods = read(row)
        number = barrier.wait(timeout=10)  # their numbers differ, as after shipments that were cancelled
        return replace(goods, shipments={number + 1: ShipmentStatus.CANCELLED})

    def whatever_the_version(alias: str, month: Any, orders: Any, columns: Any) -> None:
        for row in orders:
            type(row).rows.using(alias).filter(slot=row.slot, id=row.id).update(
                version=F("version") + 1, fulfillment_status=row.fulfillment_status, status=row.status
            )
            row.version = reload(order).version

    monkeypatch.setattr(shipping, "goods_of", together)
    monkeypatch.setattr(changing, "lock_order", lambda place, order_id: find_order(order_id))
    if without == "lock":
        assert told(at_once([lambda: prepare(order)] * 2)) == ["OrderChanged", "ShipmentView"]
        assert shipped_units(order) == 1
        return
    monkeypatch.setattr(transitions, "_compare_and_set", whatever_the_version)
    assert told(at_once([lambda: prepare(order)] * 2)) == ["ShipmentView"] * 2
    assert shipped_units(order) == 2


@pytest.mark.parametrize("round_", range(4))
def test_an_order_is_shipped_or_cancelled_but_not_both(round_: int) -> None:
    order = paid_order((1,), shard=round_ % 2)
    outcomes = at_once(
        [
            lambda: prepare(order),
            lambda: cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now()),
        ]
    )
    if statuses(order) == ("fulfilling", "partial"):
        assert told(outcomes) == ["OrderNotCancellable", "ShipmentView"]
        assert (shipped_units(order), refunds_of(order.id)) == (1, [])
    else:
        assert (statuses(order), told(outcomes)) == (("refunding", "none"), ["OrderNotShippable", "OrderView"])
        assert (shipped_units(order), len(refunds_of(order.id))) == (0, 1)


def test_a_receipt_that_is_confirmed_many_times_at_once_is_one_event() -> None:
    order = paid_order((1,))
    shipped(order)
    outcomes = at_once([lambda: confirm_receipt(user_id=order.user_id, order_id=order.id, now=timezone.now())] * 6)
    assert {outcome.version for outcome in outcomes} == {6}
    assert event_versions(order.id)[-1] == (6, "completed")


@pytest.mark.parametrize("round_", range(2))
def test_two_hands_at_one_page_do_it_once(round_: int) -> None:
    order = paid_order((4,), shard=round_)
    version = reload(order).version
    outcomes = at_once([lambda: prepare(order, expected_version=version)] * 4)
    assert told(outcomes) == ["OrderMovedOn"] * 3 + ["ShipmentView"]
