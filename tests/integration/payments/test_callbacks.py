"""Providers' deliveries: once whatever the race, nothing on a mismatch, contradictions told, refunds told."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections
from django.utils import timezone

from apps.orders.services import payment as payment_service
from apps.orders.services.cancellation import cancel_order
from apps.payments import metrics
from apps.payments.errors import CallbackMalformed, PaymentNotFound, SignatureInvalid
from apps.payments.models import Callback
from apps.payments.selectors import attempts_of, get_attempt, refunds_of
from apps.payments.services import purge_callbacks
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header
from infra.outbox.models import OutboxEvent
from infra.sharding.places import place_of_order
from tests.factories.payments import SECRET, deliver, delivery, kinds_of, reload, start, unpaid_order

pytestmark = pytest.mark.usefixtures("committed")


def stored(order):
    rows = Callback.objects.at(place_of_order(order.id)).filter(order_id=order.id).order_by("received_at")
    return [(row.result, row.alert) for row in rows]


def at_once(count, deliver_one):
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            return deliver_one(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("round_", range(3))
def test_one_delivery_sent_many_times_at_once_has_one_effect(bank, alias, round_):
    # given one signed delivery
    order = unpaid_order(alias=alias)
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "succeeded", amount="12.34")
    # when it arrives eight times at once
    results = at_once(8, lambda _: deliver(body, headers))
    # then it was applied once, and every sender was told that all is well
    assert sorted(results, key=str) == sorted([None] * 7 + ["applied"], key=str)
    assert kinds_of(order) == ["payment_started", "payment_updated", "paid"]
    assert stored(order) == [("applied", False)]


@pytest.mark.parametrize("round_", range(3))
def test_different_deliveries_of_one_success_at_once_pay_once(bank, alias, round_):
    order = unpaid_order(alias=alias)
    attempt = start(order)
    results = at_once(
        6, lambda number: deliver(*delivery(attempt.payment_id, "succeeded", amount="12.34", event_id=f"e{number}"))
    )
    assert sorted(results) == ["applied"] + ["ignored"] * 5
    assert kinds_of(order).count("paid") == 1
    assert get_attempt(order.id, 1).captured_amount == Decimal("12.34")
    versions = OutboxEvent.objects.using(alias).filter(order_id=order.id).values_list("aggregate_version", flat=True)
    assert sorted(versions) == [2, 3, 4]


def test_without_the_stored_row_a_repeat_would_be_taken_for_news(bank):
    """Negative control: what makes a repeat known is the row, not luck."""
    order = unpaid_order()
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "failed", amount="12.34")
    assert deliver(body, headers) == "applied"
    Callback.objects.at(place_of_order(order.id)).filter(order_id=order.id).delete()
    assert deliver(body, headers) == "ignored"


def test_two_of_the_same_delivery_that_both_passed_the_look_store_one(bank, monkeypatch):
    """The look before is a short cut; the primary key decides."""
    order = unpaid_order()
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "failed", amount="12.34")
    deliver(body, headers)
    monkeypatch.setattr(payment_service.payments, "callback_was_seen", lambda place, notice: False)
    assert deliver(body, headers) is None
    assert stored(order) == [("applied", False)]


@pytest.mark.parametrize("round_", range(3))
def test_a_success_and_a_cancellation_at_once_leave_no_money_behind(bank, alias, round_):
    # given an order that is being paid and cancelled at the same moment
    order = unpaid_order(alias=alias)
    attempt = start(order)

    def act(number):
        if number == 0:
            return deliver(*delivery(attempt.payment_id, "succeeded", amount="12.34"))
        return cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())

    at_once(2, act)
    # then whoever came first, the money is on its way back
    assert reload(order).status in ("cancelled", "refunding")
    assert [(refund.amount, refund.status) for refund in refunds_of(order.id)] == [(Decimal("12.34"), "approved")]
    assert get_attempt(order.id, 1).refund_claimed == Decimal("12.34")


def test_a_repeat_after_the_effect_is_well_and_does_nothing(bank):
    order = unpaid_order()
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "succeeded", amount="12.34")
    deliver(body, headers)
    version = reload(order).version
    assert deliver(body, headers) is None
    assert reload(order).version == version


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "12.33"},
        {"amount": "1234"},
        {"amount": "12.34", "currency": "USD"},
        {"amount": "12.34", "account": "somebody-else"},
    ],
)
def test_other_money_or_another_merchant_is_stored_without_effect_and_the_staff_are_alerted(
    bank, caplog, changes, alias
):
    # given a delivery that is signed well and tells of something else than was asked for
    order = unpaid_order(alias=alias)
    attempt = start(order)
    version = reload(order).version
    alerts = metrics.ALERTS.labels("sandbox", "mismatch")._value.get()
    # when it is delivered
    assert deliver(*delivery(attempt.payment_id, "succeeded", **changes)) == "mismatch"
    # then nothing moved, and it is there for the staff to see
    assert (reload(order).status, reload(order).version) == ("pending_payment", version)
    assert get_attempt(order.id, 1).status == "requires_action"
    assert stored(order) == [("mismatch", True)]
    assert metrics.ALERTS.labels("sandbox", "mismatch")._value.get() == alerts + 1
    assert attempt.payment_id in caplog.text


@pytest.mark.parametrize(
    ("first", "then", "status", "result"),
    [
        ("succeeded", "failed", "paid", "contradiction"),
        ("succeeded", "cancelled", "paid", "contradiction"),
        ("succeeded", "processing", "paid", "ignored"),
        ("failed", "succeeded", "paid", "applied"),
        ("failed", "cancelled", "pending_payment", "ignored"),
        ("cancelled", "succeeded", "paid", "applied"),
        ("processing", "requires_action", "pending_payment", "ignored"),
    ],
)
def test_words_that_contradict_each_other_end_as_the_table_says(bank, first, then, status, result):
    order = unpaid_order()
    attempt = start(order)
    deliver(*delivery(attempt.payment_id, first, amount="12.34"))
    assert deliver(*delivery(attempt.payment_id, then, amount="12.34")) == result
    assert reload(order).status == status
    assert stored(order)[-1] == (result, result == "contradiction")


def test_money_of_a_failed_attempt_pays_the_order_once_and_the_other_attempt_is_closed(bank):
    # given a first attempt that failed, and a second that is open
    order = unpaid_order()
    first = start(order)
    deliver(*delivery(first.payment_id, "failed", amount="12.34"))
    second = start(order)
    # when the first turns out to have been paid, and then the second is paid too
    assert deliver(*delivery(first.payment_id, "succeeded", amount="12.34")) == "applied"
    assert [attempt.status for attempt in attempts_of(order.id)] == ["succeeded", "cancelled"]
    assert deliver(*delivery(second.payment_id, "succeeded", amount="12.34")) == "applied"
    # then one pays and the other goes back
    assert reload(order).status == "paid"
    assert [(refund.attempt_n, refund.unexpected) for refund in refunds_of(order.id)] == [(2, True)]


def test_a_bad_or_stale_signature_is_refused_and_nothing_is_stored(bank):
    order = unpaid_order()
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "succeeded", amount="12.34")
    stale = delivery(attempt.payment_id, "succeeded", amount="12.34", at_s=time.time() - 301)
    forged = delivery(attempt.payment_id, "succeeded", amount="12.34", secret="x" * 40)
    for bad_body, bad_headers in [(body + b" ", headers), stale, forged, (body, {})]:
        with pytest.raises(SignatureInvalid):
            deliver(bad_body, bad_headers)
    assert stored(order) == []
    assert reload(order).status == "pending_payment"


@pytest.mark.parametrize("reference", ["pay_1_1", "re_1_1", "ord_1", "", "pay_9223372036854775807_1"])
def test_an_unknown_reference_is_not_found(bank, reference):
    with pytest.raises(PaymentNotFound):
        deliver(*delivery(reference, "succeeded", amount="1"))


def test_an_attempt_that_was_never_made_is_not_found(bank):
    order = unpaid_order()
    with pytest.raises(PaymentNotFound):
        deliver(*delivery(f"pay_{order.id}_1", "succeeded", amount="12.34"))
    with pytest.raises(PaymentNotFound):
        deliver(*delivery(f"re_{order.id}_1", "succeeded", amount="12.34"))


def test_an_event_whose_reference_is_of_another_kind_is_malformed(bank):
    order = unpaid_order()
    attempt = start(order)
    body, _ = delivery(attempt.payment_id, "succeeded", amount="12.34")
    event = json.loads(body)
    event["payment"]["reference"] = f"re_{order.id}_1"
    raw = json.dumps(event).encode()
    headers = {SIGNATURE_HEADER: signature_header(secret=SECRET, body=raw, at_s=int(time.time()))}
    with pytest.raises(CallbackMalformed):
        deliver(raw, headers)


def test_extra_members_and_a_large_body_are_taken(bank):
    order = unpaid_order()
    attempt = start(order)
    assert deliver(*delivery(attempt.payment_id, "failed", amount="12.34", note="x" * 250_000)) == "applied"
    row = Callback.objects.at(place_of_order(order.id)).get(order_id=order.id)
    assert len(row.raw_body) > 250_000


@pytest.mark.parametrize(("status", "result"), [("succeeded", "applied"), ("failed", "applied")])
def test_a_refunds_end_is_told_by_callback(bank, status, result):
    # given a paid order that was cancelled
    order = unpaid_order()
    attempt = start(order)
    deliver(*delivery(attempt.payment_id, "succeeded", amount="12.34"))
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    # when the refund's end is told, twice
    body, headers = delivery(f"re_{order.id}_1", status, amount="12.34")
    assert deliver(body, headers) == result
    assert deliver(body, headers) is None
    # then a success ends the order, and a failure leaves it open, to be tried again
    assert reload(order).status == ("refunded" if status == "succeeded" else "refunding")
    assert get_attempt(order.id, 1).refund_claimed == Decimal("12.34")
    assert refunds_of(order.id)[0].status == ("succeeded" if status == "succeeded" else "approved")
    contradiction = "failed" if status == "succeeded" else "succeeded"
    assert deliver(*delivery(f"re_{order.id}_1", contradiction, amount="12.34")) == "contradiction"


def test_a_crash_between_effect_and_storing_leaves_neither(bank, monkeypatch):
    order = unpaid_order()
    attempt = start(order)
    body, headers = delivery(attempt.payment_id, "succeeded", amount="12.34")

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(payment_service.payments, "store_callback", die)
        with pytest.raises(KeyboardInterrupt):
            deliver(body, headers)
    assert reload(order).status == "pending_payment"
    assert deliver(body, headers) == "applied"
    assert reload(order).status == "paid"


def test_deliveries_are_kept_for_their_retention_and_then_purged(bank, settings, alias):
    settings.PAYMENT_CALLBACK_RETENTION_DAYS = 90
    order = unpaid_order(alias=alias)
    attempt = start(order)
    deliver(*delivery(attempt.payment_id, "succeeded", amount="12.34"))
    purge_callbacks(alias, now=timezone.now() + timedelta(days=89))
    assert len(stored(order)) == 1
    purge_callbacks(alias, now=timezone.now() + timedelta(days=91), batch_rows=2, pause_s=0)
    assert stored(order) == []
