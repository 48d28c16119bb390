"""Shipments by the staff, partial too; receipt and completion; what is refused."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.orders.errors import (
    OrderMovedOn,
    OrderNotCancellable,
    OrderNotFound,
    OrderNotReceived,
    OrderNotShippable,
    ShipmentNotFound,
    ShipmentRefused,
)
from apps.orders.selectors import get_order
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.changing import change_order
from apps.orders.services.payment import record_refund_outcome
from apps.orders.services.receipt import complete_due_orders, confirm_receipt
from apps.orders.services.refunds import refund_items_as_staff
from apps.orders.services.shipping import (
    cancel_shipment,
    deliver_shipment,
    hand_over,
    prepare_shipment,
    start_fulfilling,
)
from apps.orders.services.stock import sync_due_stock
from apps.orders.services.transitions import advance
from apps.orders.shipment_selectors import own_shipments, shipments_of, shipments_with_number
from apps.payments.services import create_refund
from apps.payments.types import RefundItem, RefundOutcome, RefundStatus
from tests.factories.inventory import counters
from tests.factories.orders import event_versions, make_buyer, outbox_of, placed_order
from tests.factories.shipping import BOB, paid_order, prepare, reload, shipped, statuses

pytestmark = pytest.mark.usefixtures("committed")


def confirm(order):
    return confirm_receipt(user_id=order.user_id, order_id=order.id, now=timezone.now())


def delivered(order, shipment):
    return deliver_shipment(order_id=order.id, n=shipment.n, actor=BOB, now=timezone.now())


def withdraw(order, units):
    """Claim a refund of units by SKU, as the service of refunds does."""

    def change(place, row):
        advance(place, row, changes={}, kind="refund_approved", actor="shopper", detail="", now=timezone.now())
        create_refund(
            place,
            order_id=order.id,
            attempt_n=1,
            amount=Decimal("2.50") * sum(units.values()),
            reason="",
            items=[RefundItem(sku, quantity) for sku, quantity in units.items()],
            now=timezone.now(),
        )

    change_order(order.id, change)


@pytest.mark.parametrize("shard", [0, 1])
def test_an_order_is_packed_sent_and_received(shard):
    order = paid_order((2, 1), shard=shard)
    skus = [item.sku for item in order.items]

    shipment = prepare(order)
    assert shipment.shipment_id == f"shp_{order.id}_1"
    assert [(share.sku, share.units) for share in shipment.items] == [(skus[0], 2), (skus[1], 1)]
    assert (shipment.status, statuses(order)) == ("prepared", ("fulfilling", "partial"))

    now = timezone.now()
    sent = hand_over(order_id=order.id, n=1, carrier="hermes", number="H-1", actor=BOB, now=now)
    assert (sent.status, sent.carrier, sent.number) == ("handed_over", "hermes", "H-1")
    assert (sent.handed_over_at, sent.delivered_at) == (now, None)
    assert statuses(order) == ("shipped", "shipped")

    received = confirm(order)
    assert (received.status, received.fulfillment_status) == ("completed", "delivered")
    assert confirm(order) == received
    [shipment] = own_shipments(user_id=order.user_id, order_id=order.id)
    assert shipment.status == "delivered"
    kinds = ["placed", "payment_started", "paid", "shipment_prepared", "shipped", "completed"]
    assert [kind for _, kind in event_versions(order.id)] == kinds
    assert outbox_of(order.id) == [(n, f"order.{kind}") for n, kind in enumerate(kinds, start=1)]


def test_an_order_is_sent_in_parts_and_is_there_when_all_parts_are():
    order = paid_order((3, 1))
    first, second = (item.sku for item in order.items)

    one = shipped(order, items={first: 2})
    assert statuses(order) == ("fulfilling", "partial")
    other = shipped(order)
    assert [(share.sku, share.units) for share in other.items] == [(first, 1), (second, 1)]
    assert statuses(order) == ("shipped", "shipped")
    delivered(order, one)
    assert statuses(order) == ("shipped", "shipped")
    delivered(order, other)
    assert statuses(order) == ("completed", "delivered")
    delivered(order, other)
    assert event_versions(order.id)[-1] == (9, "completed")


def test_a_part_that_has_arrived_does_not_complete_what_is_still_to_be_sent():
    order = paid_order((2,))
    delivered(order, shipped(order, items={order.items[0].sku: 1}))
    assert statuses(order) == ("fulfilling", "partial")
    with pytest.raises(OrderNotReceived):
        confirm(order)


@pytest.mark.parametrize("items", [{"first": 4}, {"first": 1, "other": 1}, {}, {"first": 0}])
def test_more_than_is_left_or_nothing_is_not_shipped(items):
    order = paid_order((3,))
    asked = {order.items[0].sku if sku == "first" else sku: units for sku, units in items.items()}
    with pytest.raises(OrderNotShippable):
        prepare(order, items=asked)
    assert statuses(order) == ("paid", "none")
    assert shipments_of(order.id) == []


def test_what_a_refund_was_asked_for_is_not_shipped_and_the_rest_completes_the_order():
    order = paid_order((3, 1))
    first = order.items[0].sku
    withdraw(order, {first: 2})

    shipment = shipped(order)

    assert [(share.sku, share.units) for share in shipment.items] == [(first, 1), (order.items[1].sku, 1)]
    assert statuses(order) == ("shipped", "shipped")
    with pytest.raises(OrderNotShippable):
        prepare(order)


@pytest.mark.parametrize(("arrived", "expected"), [(False, ("shipped", "shipped")), (True, ("completed", "delivered"))])
def test_an_order_whose_rest_is_refunded_is_as_far_as_its_parcels(arrived, expected):
    order = paid_order((2,))
    sku = order.items[0].sku
    sent = shipped(order, items={sku: 1})
    if arrived:
        delivered(order, sent)
    refund_items_as_staff(order_id=order.id, items=[(sku, 1)], reason="none left", actor=BOB, now=timezone.now())
    assert statuses(order) == ("fulfilling", "partial")
    outcome = RefundOutcome(RefundStatus.SUCCEEDED)
    record_refund_outcome(order_id=order.id, n=1, try_n=1, outcome=outcome, now=timezone.now())
    assert statuses(order) == expected


def test_what_a_refund_is_asked_for_when_it_is_packed_does_not_leave():
    order = paid_order((3,))
    sku = order.items[0].sku
    prepare(order)
    withdraw(order, {sku: 1})
    with pytest.raises(ShipmentRefused):
        hand_over(order_id=order.id, n=1, carrier="hermes", number="1", actor=BOB, now=timezone.now())
    cancel_shipment(order_id=order.id, n=1, reason="refund", actor=BOB, now=timezone.now())
    assert [(share.sku, share.units) for share in shipped(order).items] == [(sku, 2)]
    assert statuses(order) == ("shipped", "shipped")


def test_only_a_paid_order_is_shipped():
    unpaid = placed_order()
    with pytest.raises(OrderNotShippable):
        prepare(unpaid)
    cancelled = paid_order()
    cancel_order(user_id=cancelled.user_id, order_id=cancelled.id, reason="", now=timezone.now())
    with pytest.raises(OrderNotShippable):
        prepare(cancelled)
    with pytest.raises(OrderNotFound):
        prepare_shipment(order_id=unpaid.id + 1, actor=BOB, now=timezone.now())


def test_once_it_is_collected_its_shopper_cannot_cancel_it():
    order = paid_order()
    start_fulfilling(order_id=order.id, actor=BOB, now=timezone.now())
    start_fulfilling(order_id=order.id, actor=BOB, now=timezone.now())
    assert statuses(order) == ("fulfilling", "partial")
    assert reload(order).version == 4
    with pytest.raises(OrderNotCancellable):
        cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    prepare(order)
    assert statuses(order) == ("fulfilling", "partial")


def test_a_prepared_shipment_can_be_taken_apart_and_its_units_shipped_again():
    order = paid_order((2,))
    shipment = prepare(order)

    for _ in range(2):
        cancel_shipment(order_id=order.id, n=shipment.n, reason="wrong box", actor=BOB, now=timezone.now())

    assert statuses(order) == ("fulfilling", "partial")
    assert own_shipments(user_id=order.user_id, order_id=order.id) == []
    again = shipped(order)
    assert (again.n, again.items) == (2, shipment.items)
    assert statuses(order) == ("shipped", "shipped")
    with pytest.raises(ShipmentRefused):
        cancel_shipment(order_id=order.id, n=again.n, reason="", actor=BOB, now=timezone.now())
    with pytest.raises(ShipmentRefused):
        hand_over(order_id=order.id, n=1, carrier="hermes", number="1", actor=BOB, now=timezone.now())


def test_a_shipment_is_handed_over_once():
    order = paid_order()
    shipped(order)
    version = reload(order).version
    again = {"order_id": order.id, "n": 1, "actor": BOB, "now": timezone.now()}
    hand_over(**again, carrier="hermes", number="H 123")
    assert reload(order).version == version
    for carrier, number in (("hermes", "H 124"), ("dhl", "H 123"), ("Hermes!", "1"), ("hermes", "")):
        with pytest.raises(ShipmentRefused):
            hand_over(**again, carrier=carrier, number=number)
    with pytest.raises(ShipmentNotFound):
        hand_over(**{**again, "n": 2}, carrier="hermes", number="1")
    assert shipments_with_number("H 123")[:1] == [(order.id, 1)]


def test_a_stale_page_is_refused_with_what_has_changed():
    order = paid_order()
    version = reload(order).version
    prepare(order, expected_version=version)

    with pytest.raises(OrderMovedOn, match=f"shipment_prepared by {BOB}"):
        prepare(order, expected_version=version)

    assert len(shipments_of(order.id)) == 1


def test_only_what_was_shipped_whole_can_be_confirmed_and_only_by_its_shopper():
    order = paid_order()
    with pytest.raises(OrderNotReceived):
        confirm(order)
    prepare(order)
    with pytest.raises(OrderNotReceived):
        confirm(order)
    hand_over(order_id=order.id, n=1, carrier="hermes", number="1", actor=BOB, now=timezone.now())
    with pytest.raises(OrderNotFound):
        confirm_receipt(user_id=make_buyer().user_id, order_id=order.id, now=timezone.now())
    assert confirm(order).status == "completed"


def test_what_nobody_tells_of_is_complete_after_some_days(settings):
    settings.ORDER_COMPLETION_DAYS = 10
    whole, part, young = paid_order((1,)), paid_order((2,)), paid_order((1,))
    shipped(whole)
    shipped(part, items={part.items[0].sku: 1})
    later = timezone.now() + timedelta(days=10)
    shipped(young, now=timezone.now())
    late = shipments_of(young.id)[0].handed_over_at

    complete_due_orders(now=late + timedelta(days=10) - timedelta(microseconds=1), limit=1)
    assert statuses(whole) == ("completed", "delivered")
    assert statuses(part) == ("fulfilling", "partial")
    assert statuses(young) == ("shipped", "shipped")
    assert [shipment.status for shipment in shipments_of(part.id)] == ["delivered"]

    version = reload(whole).version
    complete_due_orders(now=later + timedelta(days=1), limit=1)
    assert statuses(young) == ("completed", "delivered")
    assert reload(whole).version == version


def test_the_stock_of_a_shipped_order_stays_deducted():
    order = paid_order((2,))
    sync_due_stock(now=timezone.now(), limit=1000)
    shipped(order)
    confirm(order)
    sync_due_stock(now=timezone.now(), limit=1000)
    assert counters(order.items[0].sku) == (98, 0)
    assert get_order(user_id=order.user_id, order_id=order.id).status == "completed"


def test_a_script_ships_by_a_command(capsys):
    order = paid_order((2,))
    sku = order.items[0].sku
    call_command("ship_order", str(order.id), "--item", f"{sku}=1", "--carrier", "hermes", "--number", "H-9")
    call_command("ship_order", str(order.id))
    assert capsys.readouterr().out.splitlines() == [f"shp_{order.id}_1", f"shp_{order.id}_2"]
    assert [shipment.status for shipment in shipments_of(order.id)] == ["handed_over", "prepared"]
    for wrong in (["--item", f"{sku}=1"], ["--item", "x"], ["--carrier", "nobody"]):
        with pytest.raises(CommandError):
            call_command("ship_order", str(order.id), *wrong)
