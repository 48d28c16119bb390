"""Returns: asked for, decided, counted; the money and the stock follow once, whatever is repeated or dies."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError
from django.utils import timezone
from rest_framework.test import APIClient

from apps.inventory import services as inventory
from apps.inventory.models import Movement
from apps.orders.errors import NotReturnable, OrderMovedOn, OrderNotFound, ReturnNotFound, ReturnRefused
from apps.orders.services import returns as return_service
from apps.orders.services.payment import record_refund_outcome
from apps.orders.services.receipt import confirm_receipt
from apps.orders.services.refunds import refund_items_as_staff
from apps.orders.services.returns import (
    approve_return,
    receive_return,
    reject_return,
    request_return,
    restock_due_returns,
)
from apps.orders.services.stock import sync_due_stock
from apps.payments.selectors import refunds_of
from apps.payments.types import RefundOutcome, RefundStatus
from apps.users.types import Shopper
from infra.errors import ValidationFailed
from tests.factories.inventory import counters
from tests.factories.orders import event_versions, make_buyer
from tests.factories.shipping import BOB, paid_order, prepare, reload, shipped, statuses

pytestmark = pytest.mark.usefixtures("committed")


def received_order(quantities=(3,), *, shard=None):
    """A completed order, whose stock was deducted."""
    order = paid_order(quantities, shard=shard)
    shipped(order)
    confirm_receipt(user_id=order.user_id, order_id=order.id, now=timezone.now())
    sync_due_stock(now=timezone.now(), limit=1000)
    return order


def ask(order, *items, reason="", now=None):
    return request_return(
        user_id=order.user_id, order_id=order.id, items=items, reason=reason, now=now or timezone.now()
    )


def approve(order, n=1, **fields):
    return approve_return(order_id=order.id, n=n, note="", actor=BOB, now=timezone.now(), **fields)


def receive(order, received, restocked=None, n=1, **fields):
    return receive_return(
        order_id=order.id,
        n=n,
        received=received,
        restocked=received if restocked is None else restocked,
        note="",
        actor=BOB,
        now=timezone.now(),
        **fields,
    )


def refund_succeeds(order, n=1):
    outcome = RefundOutcome(RefundStatus.SUCCEEDED)
    record_refund_outcome(order_id=order.id, n=n, try_n=1, outcome=outcome, now=timezone.now())


def restock():
    return restock_due_returns(now=timezone.now(), limit=1000)


def client_of(user_id):
    client = APIClient()
    client.force_authenticate(user=Shopper(user_id=user_id, session_id="1", exempt=True))
    return client


@pytest.mark.parametrize("shard", [0, 1])
def test_a_part_comes_back_is_counted_refunded_and_in_stock_once(shard):
    # given a completed order of three units, of which its buyer sends two back
    order = received_order((3,), shard=shard)
    sku = order.items[0].sku
    asked = ask(order, (sku, 1), (sku, 1), reason="too dark")
    assert (asked.return_id, asked.status, asked.reason) == (f"ret_{order.id}_1", "requested", "too dark")
    assert approve(order) == approve(order)
    # when both come, one of them broken
    came = receive(order, {sku: 2}, {sku: 1})
    assert (came.status, came.refund_n) == ("received", 1)
    # then the worth of two goes back, and one is in stock again, however often the sweep runs
    [refund] = refunds_of(order.id)
    assert (refund.amount, refund.items[0].quantity, refund.status) == (Decimal("5.00"), 2, "approved")
    for _ in range(2):
        restock()
    assert counters(sku) == (98, 0)
    refund_succeeds(order)
    row = reload(order)
    assert (row.status, row.payment_status, row.fulfillment_status) == ("completed", "partially_refunded", "delivered")
    kinds = [kind for _, kind in event_versions(order.id)]
    assert kinds[-4:] == ["return_requested", "return_approved", "return_received", "payment_updated"]
    assert Movement.objects.filter(sku=sku, reason=came.return_id).count() == 1


def test_when_all_comes_back_the_order_is_returned_and_refunded():
    order = received_order((2, 1))
    first, second = (item.sku for item in order.items)
    ask(order, (first, 2))
    ask(order, (second, 1))
    approve(order, 1)
    approve(order, 2)
    receive(order, {first: 2}, n=1)
    assert statuses(order) == ("completed", "delivered")
    receive(order, {second: 1}, n=2)
    assert statuses(order) == ("refunding", "returned")
    for n in (1, 2):
        refund_succeeds(order, n)
    assert statuses(order) == ("refunded", "returned")
    assert sum(refund.amount for refund in refunds_of(order.id)) == order.total
    restock()
    assert (counters(first), counters(second)) == ((100, 0), (100, 0))


def test_parts_of_a_line_sum_to_what_it_cost():
    order = received_order((3,))
    sku = order.items[0].sku
    for n in (1, 2, 3):
        ask(order, (sku, 1))
        approve(order, n)
        receive(order, {sku: 1}, n=n)
    assert sum(refund.amount for refund in refunds_of(order.id)) == order.total


def test_returns_and_other_refunds_of_a_line_sum_to_what_it_cost():
    order = received_order((3,))
    sku = order.items[0].sku
    ask(order, (sku, 1))
    approve(order)
    receive(order, {sku: 1})
    refund_items_as_staff(order_id=order.id, items=[(sku, 2)], reason="lost", actor=BOB, now=timezone.now())
    assert [refund.amount for refund in refunds_of(order.id)] == [Decimal("2.50"), Decimal("5.00")]
    with pytest.raises(NotReturnable):
        ask(order, (sku, 1))


def test_the_stock_of_what_was_shipped_does_not_come_back_with_its_money():
    order = received_order((2,))
    sku = order.items[0].sku
    refund_items_as_staff(order_id=order.id, items=[(sku, 2)], reason="lost", actor=BOB, now=timezone.now())
    refund_succeeds(order)
    sync_due_stock(now=timezone.now(), limit=1000)
    assert statuses(order) == ("refunded", "delivered")
    assert counters(sku) == (98, 0)


def test_more_than_was_shipped_and_is_still_there_cannot_be_sent_back():
    order = paid_order((3,))
    sku = order.items[0].sku
    with pytest.raises(NotReturnable):
        ask(order, (sku, 1))
    prepare(order, items={sku: 1})
    with pytest.raises(NotReturnable):
        ask(order, (sku, 1))
    shipped(order, items={sku: 1})
    with pytest.raises(NotReturnable) as refusal:
        ask(order, (sku, 1), (sku, 1))
    assert [(error.field, error.extra["returnable"]) for error in refusal.value.errors] == [("/items/0/quantity", 1)]
    ask(order, (sku, 1))
    with pytest.raises(NotReturnable):
        ask(order, (sku, 1))
    with pytest.raises(ValidationFailed):
        ask(order, ("another", 1))
    with pytest.raises(OrderNotFound):
        request_return(user_id=make_buyer().user_id, order_id=order.id, items=[(sku, 1)], reason="", now=timezone.now())


def test_what_was_rejected_or_never_came_can_be_asked_for_again():
    order = received_order((2,))
    sku = order.items[0].sku
    ask(order, (sku, 2))
    for _ in range(2):
        told = reject_return(order_id=order.id, n=1, note="worn", actor=BOB, now=timezone.now())
    assert (told.status, told.note) == ("rejected", "worn")
    with pytest.raises(ReturnRefused):
        approve(order, 1)
    ask(order, (sku, 2))
    approve(order, 2)
    receive(order, {sku: 1}, n=2)
    ask(order, (sku, 1))
    approve(order, 3)
    assert reject_return(order_id=order.id, n=3, note="", actor=BOB, now=timezone.now()).status == "rejected"
    with pytest.raises(NotReturnable):
        ask(order, (sku, 2))
    ask(order, (sku, 1))


def test_what_has_arrived_long_ago_cannot_be_sent_back(settings):
    settings.ORDER_RETURN_DAYS = 30
    order = received_order((1,))
    sku = order.items[0].sku
    with pytest.raises(NotReturnable):
        ask(order, (sku, 1), now=timezone.now() + timedelta(days=31))
    ask(order, (sku, 1), now=timezone.now() + timedelta(days=29))


def test_goods_are_counted_once_and_within_what_was_announced():
    order = received_order((2,))
    sku = order.items[0].sku
    ask(order, (sku, 1))
    with pytest.raises(ReturnRefused):
        receive(order, {sku: 1})
    with pytest.raises(ReturnNotFound):
        approve(order, 2)
    version = reload(order).version
    approve(order, expected_version=version)
    for received, restocked in [({sku: 2}, None), ({sku: 1}, {sku: 2}), ({}, {}), ({sku: 0}, {}), ({"X": 1}, {})]:
        with pytest.raises(ReturnRefused):
            receive(order, received, restocked)
    with pytest.raises(OrderMovedOn):
        receive(order, {sku: 1}, expected_version=version)
    receive(order, {sku: 1}, {})
    with pytest.raises(ReturnRefused):
        receive(order, {sku: 1})
    restock()
    assert counters(sku) == (98, 0)
    assert len(refunds_of(order.id)) == 1


def test_stock_that_is_away_gets_its_units_later_and_once(monkeypatch):
    order = received_order((1,))
    sku = order.items[0].sku
    ask(order, (sku, 1))
    approve(order)
    receive(order, {sku: 1})

    def away(*args, **kwargs):
        raise OperationalError(2002, "Can't connect")

    with monkeypatch.context() as patched:
        patched.setattr(inventory, "restock_by_reference", away)
        restock()
    assert counters(sku) == (99, 0)

    def dies_after(follow_up):
        raise OperationalError(2002, "Can't connect")

    with monkeypatch.context() as patched:
        patched.setattr(return_service, "done", dies_after)
        restock_due_returns(now=timezone.now() + timedelta(seconds=5), limit=1000)
    assert counters(sku) == (100, 0)
    restock_due_returns(now=timezone.now() + timedelta(seconds=30), limit=1000)
    assert counters(sku) == (100, 0)


def test_returns_over_http():
    order = received_order((2,))
    sku = order.items[0].sku
    owner, stranger = client_of(order.user_id), client_of(make_buyer().user_id)
    path, body = f"/api/v1/orders/{order.id}/returns", {"items": [{"sku": sku, "quantity": 1}], "reason": "no"}

    asked = owner.post(path, body, format="json", headers={"Idempotency-Key": "k"})
    assert asked.status_code == 201, asked.content
    shown = asked.json()
    assert shown["items"] == [{"sku": sku, "quantity": 1, "received_quantity": 0}]
    assert (shown["return_id"], shown["status"], shown["refund_id"]) == (f"ret_{order.id}_1", "requested", None)
    assert asked.headers["Location"] == f"{path}/{shown['return_id']}"
    again = owner.post(path, body, format="json", headers={"Idempotency-Key": "k"})
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (shown, "true")
    assert owner.get(asked.headers["Location"]).json() == shown
    assert owner.get(path).json() == {"results": [shown], "next": None}

    for wrong in ("ret_1_1", f"ret_{order.id}_2", "x"):
        assert owner.get(f"{path}/{wrong}").status_code == 404
    assert [client.status_code for client in (stranger.get(path), stranger.post(path, body, format="json"))] == [
        404
    ] * 2
    refused = owner.post(path, {"items": [{"sku": sku, "quantity": 2}]}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert refused.json()["errors"][0]["returnable"] == 1
    for bad in (
        {},
        {"items": []},
        {"items": [{"sku": sku}]},
        {**body, "more": 1},
        {"items": [{"sku": "", "quantity": 1}]},
    ):
        answer = owner.post(path, bad, format="json")
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")

    approve(order)
    receive(order, {sku: 1})
    shown = owner.get(f"{path}/ret_{order.id}_1").json()
    assert (shown["status"], shown["items"][0]["received_quantity"]) == ("received", 1)
    assert shown["refund_id"] == f"re_{order.id}_1"
