"""Starting to pay, and what comes of it: outcomes, repeats, crashes on either side of the provider's call."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from apps.orders.errors import OrderNotFound, OrderNotPayable
from apps.orders.services import payment as payment_service
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment import record_payment_outcome, start_payment
from apps.orders.services.payment_sweeps import drive_due_refunds, poll_due_payments
from apps.payments import services as payments
from apps.payments.errors import ProviderTimeout, ProviderUnavailable
from apps.payments.selectors import attempts_of, get_attempt, refunds_of
from apps.payments.types import AttemptStatus, PaymentOutcome
from infra.errors import LimitReached, ValidationFailed
from infra.followups.models import FollowUpRow
from infra.idempotency.errors import IdempotencyKeyReused
from infra.sharding.places import place_of_order
from tests.factories.payments import (
    as_bytes,
    deliver,
    delivery,
    kinds_of,
    payment_request,
    reload,
    shopper_id,
    start,
    unpaid_order,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("committed")


def refunded(order):
    return [(refund.status, refund.amount) for refund in refunds_of(order.id)]


def drive_refunds_until(order, status):
    def ended():
        drive_due_refunds(now=timezone.now() + timedelta(seconds=120))
        return [refund.status for refund in refunds_of(order.id)] == [status]

    wait_until(ended, what=f"the refund {status}", within_s=20)


def test_a_started_payment_waits_for_its_shopper_at_the_provider(bank, alias):
    # given an order on each shard in turn
    order = unpaid_order(alias=alias)
    # when its payment is started
    attempt = start(order)
    # then the provider has a payment under our id, and the order tells of it
    assert attempt.status == AttemptStatus.REQUIRES_ACTION
    assert attempt.redirect_url.startswith(bank.url)
    assert bank.payment(attempt.payment_id)["amount"] == "12.34"
    assert kinds_of(order) == ["payment_started", "payment_updated"]
    assert reload(order).version == 3
    assert place_of_order(order.id).alias == alias


def test_the_callback_pays_the_order(bank, bank_listener, alias):
    order = unpaid_order(alias=alias)
    attempt = start(order)
    # when the shopper pays and the provider's own delivery is handed on
    bank.pay(attempt.redirect_url, "succeed")
    wait_until(lambda: bank_listener.events(attempt.payment_id), what="the callback")
    sent = next(d for d in bank_listener.deliveries if attempt.payment_id.encode() in d[2])
    assert deliver(sent[2], sent[1]) == "applied"
    # then order and attempt are paid together, and the stock is owed its move
    paid = reload(order)
    assert (paid.status, paid.payment_status) == ("paid", "paid")
    assert paid.paid_at is not None
    assert get_attempt(order.id, 1).captured_amount == Decimal("12.34")
    assert FollowUpRow.objects.for_order(order.id).filter(order_id=order.id, kind="stock").exists()
    assert kinds_of(order)[-1] == "paid"


def test_a_failure_leaves_the_order_open_for_another_attempt(bank):
    order = unpaid_order()
    first = start(order)
    deliver(*delivery(first.payment_id, "failed", amount="12.34"))
    assert reload(order).status == "pending_payment"
    # when another attempt succeeds
    second = start(order)
    assert second.n == 2
    deliver(*delivery(second.payment_id, "succeeded", amount="12.34"))
    # then the order is paid by it
    assert reload(order).status == "paid"
    assert [attempt.status for attempt in attempts_of(order.id)] == ["failed", "succeeded"]


def test_a_silent_success_is_found_by_the_poll_within_a_minute(bank, alias):
    order = unpaid_order(alias=alias)
    attempt = start(order)
    bank.pay(attempt.redirect_url, "silent")
    # before its first poll is due nothing is asked
    poll_due_payments(now=attempt.created_at + timedelta(seconds=15))
    assert reload(order).status == "pending_payment"
    # when the scan of the next minute runs
    poll_due_payments(now=attempt.created_at + timedelta(seconds=40))
    # then the order is paid
    assert reload(order).status == "paid"


def test_an_attempt_that_stays_open_is_asked_about_again_and_again(bank):
    order = unpaid_order()
    attempt = start(order)
    for turn in range(1, 4):
        poll_due_payments(now=attempt.created_at + timedelta(seconds=21 * turn))
        row = FollowUpRow.objects.for_order(order.id).get(order_id=order.id, kind="payment_poll")
        assert row.due_at <= attempt.created_at + timedelta(seconds=21 * turn + 20)
    assert reload(order).version == 3  # a poll that finds nothing new writes nothing to the order


def test_the_same_key_again_gets_the_first_answer_and_makes_no_second_payment(bank):
    order = unpaid_order()
    request = payment_request(order, key="k")
    first = start_payment(request, render=as_bytes, now=timezone.now())
    # when the payment has gone on meanwhile
    deliver(*delivery(f"pay_{order.id}_1", "failed", amount="12.34"))
    again = start_payment(request, render=as_bytes, now=timezone.now())
    # then the repeat still gets what the first request got
    assert (first.replayed, again.replayed) == (False, True)
    assert again.body == first.body
    assert len(attempts_of(order.id)) == 1


def test_the_same_key_with_another_body_is_refused(bank):
    order = unpaid_order()
    start(order, key="k")
    with pytest.raises(IdempotencyKeyReused):
        start(order, key="k", method="card")
    assert len(attempts_of(order.id)) == 1


def test_many_requests_with_one_key_at_once_make_one_attempt(bank):
    order = unpaid_order()
    request = payment_request(order, key="k")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: start_payment(request, render=as_bytes, now=timezone.now()), range(16)))
    assert len({answer.body for answer in answers}) == 1
    assert [attempt.n for attempt in attempts_of(order.id)] == [1]


class Crash(BaseException):
    """Stands for kill -9: nothing of the process runs after it."""


def test_a_crash_before_the_provider_was_called_is_mended_by_the_key(bank, monkeypatch, alias):
    # given a process that dies after its commit and before its call
    order = unpaid_order(alias=alias)
    request = payment_request(order, key="k")

    def die(attempt):
        raise Crash

    with monkeypatch.context() as dying:
        dying.setattr(payments, "ask_provider", die)
        with pytest.raises(Crash):
            start_payment(request, render=as_bytes, now=timezone.now())
    assert get_attempt(order.id, 1).status == AttemptStatus.PENDING
    assert bank.call("GET", f"/v1/payments/pay_{order.id}_1").status_code == 404
    # when the client repeats its key
    answer = start_payment(request, render=as_bytes, now=timezone.now())
    # then it gets that payment, now at the provider
    assert answer.body == f"pay_{order.id}_1 requires_action".encode()
    assert answer.replayed
    assert len(attempts_of(order.id)) == 1
    assert bank.payment(f"pay_{order.id}_1")["status"] == "requires_action"


def test_a_crash_after_the_provider_was_called_makes_no_second_payment_there(bank, monkeypatch, alias):
    # given a process that dies after the provider took the call
    order = unpaid_order(alias=alias)
    request = payment_request(order, key="k")
    ask = payments.ask_provider

    def call_and_die(attempt):
        ask(attempt)
        raise Crash

    with monkeypatch.context() as dying:
        dying.setattr(payments, "ask_provider", call_and_die)
        with pytest.raises(Crash):
            start_payment(request, render=as_bytes, now=timezone.now())
    first_url = bank.payment(f"pay_{order.id}_1")["redirect_url"]
    # when the client repeats its key
    start_payment(request, render=as_bytes, now=timezone.now())
    # then it is the same payment
    assert get_attempt(order.id, 1).redirect_url == first_url
    assert len(attempts_of(order.id)) == 1


def test_a_crash_is_mended_by_the_poll_when_the_client_never_comes_back(bank, monkeypatch):
    order = unpaid_order()

    def die(attempt):
        raise Crash

    with monkeypatch.context() as dying:
        dying.setattr(payments, "ask_provider", die)
        with pytest.raises(Crash):
            start(order)
    poll_due_payments(now=timezone.now() + timedelta(seconds=30))
    assert get_attempt(order.id, 1).status == AttemptStatus.REQUIRES_ACTION


def test_a_payment_that_was_paid_before_its_answer_arrived_pays_the_order_by_the_key(bank, monkeypatch):
    # given a provider's answer that was lost, and a shopper who paid all the same
    order = unpaid_order()
    request = payment_request(order, key="k")
    ask = payments.ask_provider

    def lose_the_answer(attempt):
        bank.pay(ask(attempt).redirect_url, "silent")
        raise ProviderTimeout

    with monkeypatch.context() as lossy:
        lossy.setattr(payments, "ask_provider", lose_the_answer)
        with pytest.raises(ProviderTimeout):
            start_payment(request, render=as_bytes, now=timezone.now())
    # when the key is repeated
    answer = start_payment(request, render=as_bytes, now=timezone.now())
    # then the truth is told
    assert answer.body.endswith(b"succeeded")
    assert reload(order).status == "paid"


def test_a_provider_that_is_down_is_told_and_the_key_goes_on_when_it_is_up(bank):
    order = unpaid_order()
    request = payment_request(order, key="k")
    bank.kill()
    try:
        with pytest.raises(ProviderUnavailable):
            start_payment(request, render=as_bytes, now=timezone.now())
    finally:
        bank.start()
    answer = start_payment(request, render=as_bytes, now=timezone.now())
    assert answer.body.endswith(b"requires_action")
    assert len(attempts_of(order.id)) == 1


def test_a_new_attempt_supersedes_the_open_one_and_closes_it_at_the_provider(bank):
    order = unpaid_order()
    first, second = start(order), start(order)
    assert [attempt.status for attempt in attempts_of(order.id)] == ["cancelled", "requires_action"]
    poll_due_payments(now=timezone.now() + timedelta(seconds=1))
    assert bank.payment(first.payment_id)["status"] == "cancelled"
    assert bank.payment(second.payment_id)["status"] == "requires_action"


@pytest.mark.parametrize("how", ["callback", "poll"])
def test_money_of_a_superseded_attempt_is_given_back_and_the_new_one_pays(bank, how):
    # given a shopper who pays on the page of the first attempt after starting a second
    order = unpaid_order()
    first, second = start(order), start(order)
    bank.pay(first.redirect_url, "silent")
    if how == "callback":
        deliver(*delivery(first.payment_id, "succeeded", amount="12.34"))
    else:
        poll_due_payments(now=timezone.now() + timedelta(seconds=1))
    # then the order still waits, and that money is on its way back
    assert reload(order).status == "pending_payment"
    assert kinds_of(order)[-1] == "payment_unexpected"
    assert refunded(order) == [("approved", Decimal("12.34"))]
    # when the second is paid
    bank.pay(second.redirect_url, "silent")
    deliver(*delivery(second.payment_id, "succeeded", amount="12.34"))
    drive_refunds_until(order, "succeeded")
    # then the order is paid once and nothing of it was refunded
    assert reload(order).status == "paid"
    assert reload(order).refunded_total == 0
    assert bank.payment(first.payment_id)["refunded_amount"] == "12.34"
    assert bank.payment(second.payment_id)["refunded_amount"] == "0"


def test_a_late_payment_of_a_cancelled_order_is_refunded_and_leaves_its_status(bank, bank_listener, alias):
    # given an order that was cancelled while its shopper was paying
    order = unpaid_order(alias=alias)
    attempt = start(order)
    bank.pay(attempt.redirect_url, "succeed", delay_s=0.5)
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    # when the provider's word comes
    wait_until(lambda: bank_listener.events(attempt.payment_id), what="the callback")
    sent = next(d for d in bank_listener.deliveries if attempt.payment_id.encode() in d[2])
    deliver(sent[2], sent[1])
    # then what was captured is on record and on its way back, and the order stays cancelled
    late = get_attempt(order.id, 1)
    assert (late.status, late.captured_amount, late.unexpected) == ("succeeded", Decimal("12.34"), True)
    assert refunded(order) == [("approved", Decimal("12.34"))]
    drive_refunds_until(order, "succeeded")
    assert bank.payment(attempt.payment_id)["refunded_amount"] == "12.34"
    closed = reload(order)
    assert (closed.status, closed.payment_status, closed.refunded_total) == ("cancelled", "unpaid", 0)
    assert "payment_unexpected" in kinds_of(order)


def test_a_late_payment_that_nobody_tells_of_is_found_by_the_watch_over_closed_attempts(bank):
    order = unpaid_order()
    attempt = start(order)
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    poll_due_payments(now=timezone.now() + timedelta(seconds=1))
    assert bank.payment(attempt.payment_id)["status"] == "cancelled"
    # when the shopper pays on the page that is still open, and no callback comes
    bank.pay(attempt.redirect_url, "silent")
    poll_due_payments(now=timezone.now() + timedelta(seconds=60))
    # then it is found and refunded
    assert kinds_of(order)[-1] == "payment_unexpected"
    drive_refunds_until(order, "succeeded")


def test_a_paid_order_that_is_cancelled_is_refunded_in_full(bank, alias):
    # given a paid order
    order = unpaid_order(alias=alias)
    attempt = start(order)
    bank.pay(attempt.redirect_url, "silent")
    poll_due_payments(now=timezone.now() + timedelta(seconds=30))
    assert reload(order).status == "paid"
    # when it is cancelled
    cancelled = cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    assert cancelled.status == "refunding"
    drive_refunds_until(order, "succeeded")
    # then all of it has gone back
    ended = reload(order)
    assert (ended.status, ended.payment_status) == ("refunded", "refunded")
    assert ended.refunded_total == Decimal("12.34")
    assert bank.payment(attempt.payment_id)["refunded_amount"] == "12.34"
    assert kinds_of(order)[-1] == "refunded"


def test_the_poll_of_one_order_does_not_suffer_from_anothers_failure(bank, monkeypatch):
    # given two silent payments, for one of which the provider fails
    broken, sound = unpaid_order(alias="shard_0"), unpaid_order(alias="shard_0")
    for order in (broken, sound):
        bank.pay(start(order).redirect_url, "silent")
    ask = payments.ask_provider

    def fail_for_one(attempt):
        if attempt.order_id == broken.id:
            raise ProviderUnavailable
        return ask(attempt)

    monkeypatch.setattr(payments, "ask_provider", fail_for_one)
    poll_due_payments(now=timezone.now() + timedelta(seconds=30))
    # then the other is found, and the first is still owed
    assert reload(sound).status == "paid"
    assert FollowUpRow.objects.for_order(broken.id).filter(order_id=broken.id, kind="payment_poll").exists()


def test_only_an_order_that_waits_for_its_payment_can_be_paid(bank):
    expired = unpaid_order(expires_in_s=-1)
    with pytest.raises(OrderNotPayable):
        start(expired)
    cancelled = unpaid_order()
    cancel_order(user_id=cancelled.user_id, order_id=cancelled.id, reason="", now=timezone.now())
    with pytest.raises(OrderNotPayable):
        start(cancelled)
    assert attempts_of(expired.id) == attempts_of(cancelled.id) == []


def test_another_shoppers_order_cannot_be_paid(bank):
    order = unpaid_order()
    request = payment_request(order)
    order.user_id = shopper_id(place_of_order(order.id).alias)
    with pytest.raises(OrderNotFound):
        start_payment(payment_request(order), render=as_bytes, now=timezone.now())
    assert request.order_id == order.id
    assert attempts_of(order.id) == []


def test_a_provider_or_return_address_that_is_not_offered_is_refused(bank, settings):
    settings.PAYMENT_RETURN_URLS = ["https://shop.example"]
    order = unpaid_order()
    with pytest.raises(ValidationFailed) as told:
        start(order, provider="other", return_url="https://evil.example/")
    assert [error.field for error in told.value.errors] == ["/provider", "/return_url"]
    assert attempts_of(order.id) == []
    assert start(order, return_url="https://shop.example/thanks").return_url == "https://shop.example/thanks"


def test_an_order_takes_a_bounded_number_of_attempts(bank, settings):
    settings.PAYMENT_MAX_ATTEMPTS = 2
    order = unpaid_order()
    start(order)
    start(order)
    with pytest.raises(LimitReached):
        start(order)


def test_a_lost_race_for_the_order_is_judged_anew(bank, monkeypatch):
    # given a change of the order that comes between our reading and our writing
    order = unpaid_order()
    attempt = start(order)
    judge = payments.judge_outcome
    raced = []

    def race(*args, **kwargs):
        if not raced:
            raced.append(True)
            with ThreadPoolExecutor(1) as other:
                other.submit(
                    cancel_order, user_id=order.user_id, order_id=order.id, reason="", now=timezone.now()
                ).result()
        return judge(*args, **kwargs)

    monkeypatch.setattr(payments, "judge_outcome", race)
    record_payment_outcome(
        order_id=order.id, n=attempt.n, outcome=PaymentOutcome(AttemptStatus.SUCCEEDED), now=timezone.now()
    )
    # then the money is seen to have come too late, and goes back
    assert reload(order).status == "cancelled"
    assert refunded(order) == [("approved", Decimal("12.34"))]


def test_without_judging_anew_a_lost_race_would_lose_the_money(bank, monkeypatch):
    """Negative control: with a single try the provider's word ends in an error instead of a refund."""
    monkeypatch.setattr(payment_service, "_MAX_TRIES", 1)
    with pytest.raises(Exception, match="changed by too many"):
        test_a_lost_race_for_the_order_is_judged_anew(bank, monkeypatch)
