"""Authorise and capture apart: holds, captures that are owed until done, holds that lapse or are given up."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from apps.orders.audit import payments as payment_audit
from apps.orders.errors import OrderNotPayable
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import expire_orders
from apps.orders.services.payment import capture_payment
from apps.orders.services.payment_sweeps import poll_due_payments
from apps.payments.errors import ProviderUnavailable
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, refunds_of
from infra.sharding.places import place_of_order
from tests.factories.orders import expire_at
from tests.factories.payments import deliver, delivery, kinds_of, reload, start, unpaid_order, wait_until

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def held_bank(bank, settings):
    """The sandbox, with payments that are only authorized at first."""
    options = {**django_settings.PAYMENT_PROVIDERS["sandbox"], "captures_apart": True}
    settings.PAYMENT_PROVIDERS = {"sandbox": options}
    registry._build.cache_clear()
    return bank


def capture(order):
    return capture_payment(order_id=order.id, reason="it is packed", actor="staff:1", now=timezone.now())


def authorized_order(held_bank, **fields):
    order = unpaid_order(**fields)
    attempt = start(order)
    assert held_bank.pay(attempt.redirect_url, "silent").json()["status"] == "authorized"
    poll_due_payments(now=timezone.now() + timedelta(seconds=30))
    assert (reload(order).status, reload(order).payment_status) == ("pending_payment", "authorized")
    return order


def findings_about(order):
    checks = (
        payment_audit.money_agrees_with_the_order,
        payment_audit.holds_agree_with_the_order,
        payment_audit.open_payments_are_followed,
    )
    found = [each for check in checks for each in check(place_of_order(order.id).alias, timezone.now())]
    return [each for each in found if str(order.id) in each.subject]


def test_what_was_authorized_is_captured_when_it_is_asked_for(held_bank, bank_listener, alias):
    order = authorized_order(held_bank, alias=alias)
    assert get_attempt(order.id, 1).captured_amount == 0
    assert findings_about(order) == []
    # when it is captured, the bank has taken the money and the order is paid
    assert capture(order).status == "succeeded"
    assert (reload(order).status, reload(order).payment_status) == ("paid", "paid")
    assert get_attempt(order.id, 1).captured_amount == Decimal("12.34")
    assert kinds_of(order)[-3:] == ["authorized", "capture_requested", "paid"]
    assert held_bank.payment(f"pay_{order.id}_1")["status"] == "succeeded"
    # and once more is no second capture
    assert capture(order).status == "succeeded"
    wait_until(lambda: bank_listener.events(f"pay_{order.id}_1"), what="the callback of the capture")
    assert deliver(*delivery(f"pay_{order.id}_1", "succeeded", amount="12.34")) == "ignored"
    assert findings_about(order) == []


def test_a_capture_that_the_provider_did_not_answer_is_owed_until_it_is_done(held_bank, monkeypatch):
    order = authorized_order(held_bank)

    def away(reference, money):
        raise ProviderUnavailable("away")

    with monkeypatch.context() as down:
        down.setattr(registry.get_provider("sandbox"), "capture_payment", away)
        assert capture(order).status == "authorized"
    assert get_attempt(order.id, 1).capture_owed
    assert capture(order).status == "authorized" or reload(order).status == "paid"
    poll_due_payments(now=timezone.now() + timedelta(seconds=30))
    assert reload(order).status == "paid"
    assert kinds_of(order).count("capture_requested") == 1


def test_a_hold_does_not_expire_with_the_order_and_its_lapse_lets_it(held_bank):
    order = authorized_order(held_bank)
    expire_at(order.id, timezone.now() - timedelta(seconds=1))
    expire_orders(now=timezone.now())
    assert reload(order).payment_status == "authorized"
    # when the bank gives the hold up, the order is as unpaid as any other
    assert deliver(*delivery(f"pay_{order.id}_1", "cancelled", amount="12.34")) == "applied"
    assert (reload(order).status, reload(order).payment_status) == ("pending_payment", "unpaid")
    expire_orders(now=timezone.now())
    assert reload(order).status == "expired"
    with pytest.raises(OrderNotPayable):
        capture(order)


def test_cancelling_gives_the_hold_up_and_a_capture_that_was_faster_goes_back(held_bank):
    order, faster = authorized_order(held_bank), authorized_order(held_bank)
    for each in (order, faster):
        cancel_order(user_id=each.user_id, order_id=each.id, reason="", now=timezone.now())
        assert (reload(each).status, reload(each).payment_status) == ("cancelled", "unpaid")
    assert deliver(*delivery(f"pay_{faster.id}_1", "succeeded", amount="12.34")) == "applied"
    poll_due_payments(now=timezone.now() + timedelta(seconds=1))
    assert held_bank.payment(f"pay_{order.id}_1")["status"] == "cancelled"
    assert refunds_of(order.id) == []
    assert [refund.unexpected for refund in refunds_of(faster.id)] == [True]
    assert findings_about(order) == findings_about(faster) == []


def test_an_order_that_is_authorized_takes_no_further_attempt_and_gives_up_another_hold(held_bank):
    order = unpaid_order()
    first, second = start(order), start(order)
    held_bank.pay(second.redirect_url, "silent")
    assert deliver(*delivery(second.payment_id, "authorized", amount="12.34")) == "applied"
    with pytest.raises(OrderNotPayable):
        start(order)
    # when the shopper had confirmed the first page too
    held_bank.pay(first.redirect_url, "silent")
    assert deliver(*delivery(first.payment_id, "authorized", amount="12.34")) == "ignored"
    poll_due_payments(now=timezone.now() + timedelta(seconds=1))
    assert held_bank.payment(first.payment_id)["status"] == "cancelled"
    assert reload(order).payment_status == "authorized"
    assert findings_about(order) == []


def test_an_unpaid_order_has_nothing_to_capture(held_bank):
    order = unpaid_order()
    start(order)
    with pytest.raises(OrderNotPayable):
        capture(order)
