"""Refunds of parts: exact to the cent, never too much, their stock, the staff's decisions, failures."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.inventory.models import Movement, Reservation
from apps.orders.audit import orders as order_audit
from apps.orders.audit import payments as payment_audit
from apps.orders.audit.reservations import reservations_agree_with_orders
from apps.orders.errors import OrderNotFound, OrderNotRefundable, RefundNotOpen
from apps.orders.services import refunds as refund_service
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment_sweeps import drive_due_refunds
from apps.orders.services.refunds import (
    approve_refund,
    refund_items_as_staff,
    reject_refund,
    request_refund,
    retry_refund,
    settle_refund_outside,
)
from apps.orders.services.stock import sync_due_stock
from apps.payments.domain import MAX_REFUND_TRIES
from apps.payments.errors import PaymentNotFound, ProviderUnavailable, RefundTooLarge
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, get_refund, refunds_for_staff, refunds_of
from apps.payments.types import RefundOutcome, RefundStatus
from infra.errors import LimitReached, ValidationFailed
from infra.followups.models import FollowUpRow
from infra.idempotency.errors import IdempotencyKeyReused
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.inventory import counters
from tests.factories.orders import event_versions, make_sku, outbox_of, placed_order
from tests.factories.payments import (
    ask_refund,
    paid_order,
    refund_request,
    reload,
    send_some,
    tell_refund,
)

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


def lines_of(order):
    return {line.sku: (line.refunded_quantity, line.returned_quantity) for line in refund_service.order_items(order.id)}


def findings_about(order):
    """Return what the audit says about an order, once its stock has followed."""
    sync_due_stock(now=timezone.now())
    alias = place_of_order(order.id).alias
    checks = (
        payment_audit.money_agrees_with_the_order,
        payment_audit.refunds_within_capture,
        payment_audit.refunds_agree_with_the_lines,
        payment_audit.open_payments_are_followed,
        payment_audit.refunding_ends,
        order_audit.totals_add_up,
        order_audit.versions_have_no_gaps,
        reservations_agree_with_orders,
    )
    found = [finding for check in checks for finding in check(alias, timezone.now())]
    return [finding for finding in found if str(order.id) in finding.subject]


def decide(service, refund, **fields):
    return service(
        order_id=refund.order_id, n=refund.n, reason="so it is", actor="staff:1", now=timezone.now(), **fields
    )


@pytest.mark.parametrize("shard", [0, 1])
def test_a_part_of_an_unsent_order_is_refunded_at_once_and_its_stock_comes_back(shard):
    # given a paid order of three, a discount on them, and a shipping fee
    sku, other = make_sku(10, price="2.50"), make_sku(10, price="1.00")
    order = paid_order([(sku, 3), (other, 1)], shard=shard, shipping_fee="3.00", line_discounts=["0.50"])
    assert order.total == Decimal("11.00")
    # when one of them is given back
    refund = ask_refund(order, (sku, 1))
    # then it is approved, its worth is its share of what the line cost, and it is in stock again
    assert (refund.status, refund.amount, refund.returns_stock) == ("approved", Decimal("2.33"), True)
    assert (reload(order).status, reload(order).payment_status) == ("paid", "paid")
    assert event_versions(order.id)[-1] == (4, "refund_approved")
    assert outbox_of(order.id)[-1] == (4, "order.refund_approved")
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (8, 0)
    assert findings_about(order) == []
    # when the provider has done it
    tell_refund(refund, "succeeded")
    assert (reload(order).status, reload(order).payment_status) == ("paid", "partially_refunded")
    assert lines_of(order) == {sku: (1, 1), other: (0, 0)}
    # when the rest follows in two parts, the last takes the shipping fee with it and ends the order
    second = ask_refund(order, (sku, 2))
    assert second.amount == Decimal("4.67")
    assert reload(order).status == "paid"
    last = ask_refund(order, (other, 1))
    assert last.amount == Decimal("4.00")
    assert reload(order).status == "refunding"
    for each in (last, second):
        tell_refund(each, "succeeded")
    ended = reload(order)
    assert (ended.status, ended.payment_status, ended.refunded_total) == ("refunded", "refunded", Decimal("11.00"))
    assert lines_of(order) == {sku: (3, 3), other: (1, 1)}
    assert findings_about(order) == []
    assert (counters(sku), counters(other)) == ((10, 0), (10, 0))
    assert (
        sum(Movement.objects.using("inventory").filter(sku=sku, kind="restock").values_list("quantity", flat=True)) == 3
    )


def test_units_come_back_once_however_often_the_stock_is_brought_in_line():
    sku = make_sku(10)
    order = paid_order([(sku, 4)])
    ask_refund(order, (sku, 1))
    for _ in range(2):
        refund_service.owe_stock_return(place_of_order(order.id), order.id, now=timezone.now())
        sync_due_stock(now=timezone.now())
    assert counters(sku) == (7, 0)
    # and the rest comes back with the whole order, the part not a second time
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (10, 0)
    assert [refund.amount for refund in refunds_of(order.id)] == [Decimal("2.50"), Decimal("7.50")]
    for refund in reversed(refunds_of(order.id)):
        tell_refund(refund, "succeeded")
    assert lines_of(order) == {sku: (4, 1)}
    assert findings_about(order) == []


def test_units_that_return_before_the_stock_was_deducted_are_deducted_first(monkeypatch):
    sku = make_sku(10)
    monkeypatch.setattr("tests.factories.payments.sync_stock_of", lambda order_ids, now: None)
    order = paid_order([(sku, 4)])
    assert counters(sku) == (10, 4)
    ask_refund(order, (sku, 1))
    FollowUpRow.objects.for_order(order.id).filter(order_id=order.id, kind="stock").delete()
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (7, 0)


def test_a_unit_that_has_not_come_back_yet_is_found_and_mended():
    sku = make_sku(10)
    order = paid_order([(sku, 4)])
    ask_refund(order, (sku, 1))
    all_found = reservations_agree_with_orders("all", timezone.now())
    [late] = [finding for finding in all_found if str(order.id) in finding.subject]
    assert late.mend is not None
    assert late.since is not None
    late.mend(timezone.now())
    assert counters(sku) == (7, 0)
    assert findings_about(order) == []


@hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_sequence_of_parts_rejections_and_failures_gives_back_exactly_what_was_paid(data):
    # given a sent order of odd amounts, every refund of which the staff decide
    quantities = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    items = [(make_sku(50, price=data.draw(st.sampled_from(["0.99", "3.33", "10.01"]))), each) for each in quantities]
    discounts = [data.draw(st.sampled_from(["0.00", "0.07", "0.50"])) for _ in items]
    order = paid_order(items, line_discounts=discounts)
    send_some(order.id, "shipped")
    left = dict(items)
    given = Decimal(0)
    # when it is given back in parts, some of which are rejected first
    while left:
        sku = data.draw(st.sampled_from(list(left)))
        count = data.draw(st.integers(1, left[sku]))
        try:
            refund = ask_refund(order, (sku, count))
        except OrderNotRefundable:  # so few of so cheap a line are worth no cent: all of it then
            refund = ask_refund(order, (sku, count := left[sku]))
        if data.draw(st.booleans()):
            decide(reject_refund, refund)
            continue
        decide(approve_refund, refund)
        tell_refund(refund, "succeeded")
        given += refund.amount
        left[sku] -= count
        if not left[sku]:
            del left[sku]
    # then what was paid has come back, to the cent
    assert given == order.total
    assert reload(order).payment_status == "refunded"
    assert findings_about(order) == []


@pytest.mark.parametrize(
    ("sent", "status"), [("partial", "fulfilling"), ("shipped", "shipped"), ("delivered", "completed")]
)
def test_once_something_was_sent_the_staff_decide_and_no_stock_moves_by_itself(sent, status):
    sku = make_sku(10)
    order = paid_order([(sku, 2)], shipping_fee="3.00")
    for step in ("partial", "shipped", "delivered"):
        send_some(order.id, step)
        if step == sent:
            break
    assert reload(order).status == status
    refund = ask_refund(order, (sku, 2))
    # then it waits for them, without the fee, and claims its money
    assert (refund.status, refund.amount) == ("requested", Decimal("5.00"))
    assert get_attempt(order.id, 1).refund_claimed == Decimal("5.00")
    assert not FollowUpRow.objects.for_order(order.id).filter(order_id=order.id, kind="refund").exists()
    assert event_versions(order.id)[-1][1] == "refund_requested"
    assert refund.n in [each.n for each in refunds_for_staff(place_of_order(order.id).alias, limit=500)]
    with pytest.raises(RefundTooLarge):
        ask_refund(order, (sku, 1))
    # when it is approved and done
    approved = decide(approve_refund, refund)
    assert (approved.status, approved.decided_by, approved.decision) == ("approved", "staff:1", "so it is")
    tell_refund(refund, "succeeded")
    assert (reload(order).status, reload(order).payment_status) == (status, "partially_refunded")
    assert findings_about(order) == []
    assert counters(sku) == (8, 0)


def test_the_whole_of_a_sent_order_ends_it_and_leaves_its_stock_where_it_went():
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    send_some(order.id, "shipped")
    decide(approve_refund, ask_refund(order, (sku, 2)))
    assert reload(order).status == "refunding"
    tell_refund(refunds_of(order.id)[0], "succeeded")
    assert reload(order).status == "refunded"
    assert findings_about(order) == []
    assert counters(sku) == (8, 0)


def test_units_that_never_left_go_back_into_stock_if_the_staff_say_so_and_never_more_than_were_bought():
    sku = make_sku(10)
    order = paid_order([(sku, 3)])
    ask_refund(order, (sku, 1))
    send_some(order.id)
    refund = ask_refund(order, (sku, 2))
    decide(approve_refund, refund, returns_stock=True)
    assert findings_about(order) == []
    assert counters(sku) == (10, 0)
    with place_of_order(order.id).atomic(), pytest.raises(RefundNotOpen):
        refund_service._return_units(place_of_order(order.id), reload(order), refund.items, now=timezone.now())


def test_what_was_rejected_can_be_asked_for_again_and_is_decided_once():
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    send_some(order.id)
    refund = ask_refund(order, (sku, 2))
    assert decide(reject_refund, refund).status == "rejected"
    assert get_attempt(order.id, 1).refund_claimed == 0
    assert event_versions(order.id)[-1][1] == "refund_rejected"
    for service in (approve_refund, reject_refund, retry_refund, settle_refund_outside):
        with pytest.raises(RefundNotOpen, match="rejected, decided by staff:1"):
            decide(service, refund)
    assert ask_refund(order, (sku, 2)).status == "requested"
    assert findings_about(order) == []


def test_the_staff_refund_items_of_their_own_accord():
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    send_some(order.id, "shipped")
    refund = refund_items_as_staff(
        order_id=order.id, items=[(sku, 1)], reason="arrived broken", actor="staff:1", now=timezone.now()
    )
    assert (refund.status, refund.decided_by, refund.returns_stock) == ("approved", "staff:1", False)
    with pytest.raises(OrderNotFound):
        refund_items_as_staff(order_id=order.id + 1, items=[(sku, 1)], reason="", actor="s", now=timezone.now())


def test_more_than_is_left_is_refused_with_all_items_at_once():
    sku, other = make_sku(10), make_sku(10)
    order = paid_order([(sku, 2), (other, 1)])
    ask_refund(order, (sku, 1))
    with pytest.raises(RefundTooLarge) as told:
        ask_refund(order, (other, 2), (sku, 1), (sku, 1))
    assert [(error.field, error.extra) for error in told.value.errors] == [
        ("/items/0/quantity", {"sku": other, "requested": 2, "refundable": 1}),
        ("/items/1/quantity", {"sku": sku, "requested": 2, "refundable": 1}),
    ]
    with pytest.raises(ValidationFailed) as unknown:
        ask_refund(order, (sku, 1), ("no-such", 1))
    assert [error.field for error in unknown.value.errors] == ["/items/1/sku"]
    assert len(refunds_of(order.id)) == 1


def test_only_an_order_whose_money_is_here_can_be_refunded():
    sku = make_sku(10)
    unpaid = placed_order(items=[(sku, 1)])
    with pytest.raises(OrderNotRefundable):
        ask_refund(unpaid, (sku, 1))
    cancelled = paid_order([(sku, 1)])
    cancel_order(user_id=cancelled.user_id, order_id=cancelled.id, reason="", now=timezone.now())
    with pytest.raises(OrderNotRefundable):
        ask_refund(cancelled, (sku, 1))


def test_another_shoppers_order_is_not_found_and_refunds_are_bounded(settings):
    sku = make_sku(10)
    order, strangers = paid_order([(sku, 3)], shard=0), paid_order([(sku, 1)], shard=0)
    for request in (refund_request(order, [(sku, 1)]), refund_request(strangers, [(sku, 1)])):
        with pytest.raises(OrderNotFound):
            request_refund(
                type(request)(
                    key=request.key,
                    order_id=strangers.id if request.order_id == order.id else order.id,
                    items=request.items,
                    reason="",
                ),
                render=lambda refund: b"",
                now=timezone.now(),
            )
    settings.PAYMENT_MAX_REFUNDS = 1
    ask_refund(order, (sku, 1))
    with pytest.raises(LimitReached):
        ask_refund(order, (sku, 1))


def test_a_line_that_cost_nothing_has_nothing_to_refund():
    sku, free = make_sku(10), make_sku(10, price="1.00")
    order = paid_order([(sku, 1), (free, 1)], line_discounts=["0.00", "1.00"])
    with pytest.raises(OrderNotRefundable, match="Nothing was paid"):
        ask_refund(order, (free, 1))
    # with what did cost something it goes back, and then the order is wholly refunded
    ask_refund(order, (sku, 1), (free, 1))
    assert reload(order).status == "refunding"


def test_a_key_makes_one_refund_and_its_repeat_gets_the_first_answer():
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    request = refund_request(order, [(sku, 1)], key="k")
    render = lambda refund: f"{refund.refund_id} {refund.status}".encode()  # noqa: E731
    first = request_refund(request, render=render, now=timezone.now())
    tell_refund(refunds_of(order.id)[0], "succeeded")
    again = request_refund(request, render=render, now=timezone.now())
    assert (first.replayed, again.replayed) == (False, True)
    assert first.body == again.body == f"re_{order.id}_1 approved".encode()
    with pytest.raises(IdempotencyKeyReused):
        request_refund(refund_request(order, [(sku, 2)], key="k"), render=render, now=timezone.now())


# -- failures ---------------------------------------------------------------------------------------------------------


class Scripted:
    """A provider that says of each reference what the test wrote down, and keeps what it was asked."""

    name, account = "sandbox", "floodgate"

    def __init__(self):
        self.words, self.created = {}, []

    def create_refund(self, order):
        self.created.append(order.reference)
        return RefundOutcome(RefundStatus(self.words.get(order.reference, "processing")))

    def fetch_refund(self, order):
        return RefundOutcome(RefundStatus(self.words.get(order.reference, "processing")))


@pytest.fixture
def provider(monkeypatch):
    scripted = Scripted()
    monkeypatch.setattr(registry, "_build", lambda name: scripted)
    return scripted


def due_at(refund):
    return FollowUpRow.objects.for_order(refund.order_id).get(order_id=refund.order_id, kind="refund").due_at


def failing_refund(provider):
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    refund = ask_refund(order, (sku, 1))
    for try_n in range(1, 9):
        provider.words[f"{refund.refund_id}_t{try_n}" if try_n > 1 else refund.refund_id] = "failed"
    return order, refund


def test_a_failed_refund_is_tried_again_ever_later_and_then_is_the_staffs(provider):
    order, refund = failing_refund(provider)
    now, waits = timezone.now(), []
    for _ in range(40):
        drive_due_refunds(now=now)
        standing = get_refund(order.id, refund.n)
        if standing.status == "failed":
            break
        later = max(due_at(refund), now + timedelta(seconds=1))
        waits.append((later - now).total_seconds())
        now = later
    # then each try had a reference of its own, and the waits grew
    tried = [refund.refund_id] + [f"{refund.refund_id}_t{n}" for n in range(2, MAX_REFUND_TRIES + 1)]
    assert provider.created == tried
    assert (standing.status, standing.tries) == ("failed", MAX_REFUND_TRIES)
    assert sum(waits) > 4000
    assert event_versions(order.id)[-1][1] == "refund_failed"
    # it keeps its claim, the order waits for the staff, who see it, and the audit has nothing against that
    assert get_attempt(order.id, 1).refund_claimed == standing.amount
    assert reload(order).status == "refunding"
    assert [r.n for r in refunds_for_staff(place_of_order(order.id).alias, limit=500) if r.order_id == order.id] == [1]
    assert findings_about(order) == []
    # when they have it tried once more and it goes through
    retried = decide(retry_refund, refund)
    assert (retried.status, retried.tries) == ("approved", MAX_REFUND_TRIES + 1)
    provider.words[f"{refund.refund_id}_t{MAX_REFUND_TRIES + 1}"] = "succeeded"
    drive_due_refunds(now=now + timedelta(seconds=5))
    assert reload(order).status == "refunded"
    assert findings_about(order) == []


def test_what_the_staff_paid_by_another_way_ends_the_refund(provider):
    order, refund = failing_refund(provider)
    for try_n in range(1, MAX_REFUND_TRIES + 1):
        tell_refund(refund, "failed", try_n=try_n)
    settled = decide(settle_refund_outside, refund)
    assert (settled.status, settled.outside) == ("succeeded", True)
    assert (reload(order).status, reload(order).refunded_total) == ("refunded", order.total)
    assert findings_about(order) == []


def test_a_try_that_went_through_after_all_is_not_paid_twice(provider):
    # given a refund that was told to have failed
    order, refund = failing_refund(provider)
    assert tell_refund(refund, "failed") == "approved"
    # while the provider still works on it nothing is sent
    provider.words[refund.refund_id] = "processing"
    later = timezone.now() + timedelta(seconds=10)
    drive_due_refunds(now=later)
    assert provider.created == []
    # when it went through, that counts
    provider.words[refund.refund_id] = "succeeded"
    drive_due_refunds(now=later + timedelta(seconds=60))
    assert provider.created == []
    standing = get_refund(order.id, refund.n)
    assert (standing.status, standing.tries) == ("succeeded", 1)
    assert reload(order).status == "refunded"


def test_a_provider_that_is_down_is_no_failure(provider, monkeypatch):
    order, refund = failing_refund(provider)

    def down(order):
        raise ProviderUnavailable("away")

    monkeypatch.setattr(provider, "create_refund", down)
    drive_due_refunds(now=timezone.now())
    assert (get_refund(order.id, 1).status, get_refund(order.id, 1).tries) == ("approved", 1)
    assert due_at(refund) > timezone.now()


def test_an_unknown_refund_cannot_be_decided():
    order = paid_order([(make_sku(10), 1)])
    with pytest.raises(PaymentNotFound):
        approve_refund(order_id=order.id, n=1, reason="", actor="staff:1", now=timezone.now())


# -- damage that the audit finds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE orders_line_{month} SET refunded_quantity = 2 WHERE slot = {slot} AND order_id = {id}",
        "UPDATE orders_line_{month} SET returned_quantity = 0 WHERE slot = {slot} AND order_id = {id}",
        "UPDATE payments_refund_{month} SET items = REPLACE(items, '\"quantity\": 1', '\"quantity\": 9') "
        "WHERE slot = {slot} AND order_id = {id}",
        "UPDATE payments_attempt_{month} SET refund_claimed = 5 WHERE slot = {slot} AND order_id = {id}",
    ],
)
def test_what_disagrees_with_a_refund_is_found(damage):
    sku = make_sku(10)
    order = paid_order([(sku, 3)])
    tell_refund(ask_refund(order, (sku, 1)), "succeeded")
    assert findings_about(order) == []
    place = place_of_order(order.id)
    with connections[place.alias].cursor() as cursor:
        cursor.execute(damage.format(month=Month.of_id(order.id).suffix, slot=place.slot, id=order.id))
    assert findings_about(order) != []


def test_units_that_are_in_stock_again_and_should_not_be_are_found_and_not_excused():
    sku = make_sku(10)
    order = paid_order([(sku, 3)])
    Reservation.objects.using("inventory").filter(order_id=order.id).update(returned=1)
    [finding] = findings_about(order)
    assert (finding.check, finding.since) == ("reservations", None)
