"""Stripe's adapter against a server that speaks its protocol: paid, held, captured, given back, told, settled."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from requests.structures import CaseInsensitiveDict

from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment import capture_payment, receive_callback
from apps.orders.services.payment_sweeps import drive_due_refunds, poll_due_payments
from apps.orders.services.reconciliation import reconcile
from apps.payments.errors import (
    CallbackMalformed,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    SignatureInvalid,
    UnknownAtProvider,
)
from apps.payments.models import Difference
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, refunds_of
from apps.payments.types import AttemptStatus, Money, PaymentKey, PaymentOrder
from tests.factories.payments import kinds_of, reload, start, unpaid_order
from tests.factories.stripe_server import API_KEY, WEBHOOK_SECRET, StripeServer, stripe_event

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def server():
    running = StripeServer()
    yield running
    running.close()


@pytest.fixture
def options(server, settings):
    made = {
        "class": "apps.payments.providers.stripe.StripeProvider",
        "account": "acct_test",
        "api_key": API_KEY,
        "webhook_secret": WEBHOOK_SECRET,
        "return_url": "https://shop.example/paid",
        "connect_timeout_s": 1.0,
        "read_timeout_s": 0.5,
        "max_age_s": 300,
        "url": server.url,
    }
    settings.PAYMENT_PROVIDERS = {"stripe": made}
    registry._build.cache_clear()
    yield made
    registry._build.cache_clear()


@pytest.fixture
def provider(options):
    return registry.get_provider("stripe")


def order_and_session(server, **fields):
    order = unpaid_order(**fields)
    attempt = start(order, provider="stripe")
    return order, attempt, server.sessions[attempt.provider_id]


def tell(contents, kind, **fields):
    body, headers = stripe_event(contents, kind, **fields)
    return receive_callback(provider="stripe", headers=CaseInsensitiveDict(headers), raw_body=body, now=timezone.now())


def soon(seconds=30):
    return timezone.now() + timedelta(seconds=seconds)


def test_a_payment_is_a_session_under_our_reference_and_key(server, provider, alias):
    order, attempt, session = order_and_session(server, alias=alias)
    assert attempt.status == AttemptStatus.REQUIRES_ACTION
    assert attempt.redirect_url == session["url"]
    assert (session["amount_total"], session["currency"]) == (1234, "gbp")
    assert session["client_reference_id"] == attempt.payment_id
    _, path, form, key = server.requests[0]
    assert (path, key) == ("/v1/checkout/sessions", attempt.payment_id)
    assert form["success_url"] == "https://shop.example/paid"
    # the same call again, as after a crash, makes no second one
    wanted = PaymentOrder(attempt.payment_id, Decimal("12.34"), "GBP", "", "")
    assert provider.create_payment(wanted).provider_id == attempt.provider_id
    assert len(server.sessions) == 1
    assert reload(order).status == "pending_payment"


def test_the_event_of_the_session_pays_the_order_once(server, provider):
    order, attempt, session = order_and_session(server)
    server.pay(session["id"])
    assert tell(session, "checkout.session.completed", event_id="evt_1") == "applied"
    assert tell(session, "checkout.session.completed", event_id="evt_1") is None
    intent = server.intents[session["payment_intent"]]
    assert tell(intent, "payment_intent.succeeded") == "ignored"
    assert reload(order).status == "paid"
    assert get_attempt(order.id, 1).captured_amount == Decimal("12.34")
    assert attempt.provider_id == session["id"]


def test_a_silent_payment_is_found_by_the_poll(server, provider):
    order, _, session = order_and_session(server)
    server.pay(session["id"])
    poll_due_payments(now=soon())
    assert reload(order).status == "paid"


def test_money_is_held_captured_and_given_up_apart(server, options, settings):
    settings.PAYMENT_PROVIDERS = {"stripe": {**options, "captures_apart": True}}
    registry._build.cache_clear()
    order, _, session = order_and_session(server)
    other, _, other_session = order_and_session(server)
    for each in (session, other_session):
        server.pay(each["id"])
        tell(each, "checkout.session.completed")
        assert tell(server.intents[each["payment_intent"]], "payment_intent.amount_capturable_updated") == "applied"
    assert reload(order).payment_status == reload(other).payment_status == "authorized"
    # when the one is captured and the other cancelled
    captured = capture_payment(order_id=order.id, reason="sent", actor="staff:1", now=timezone.now())
    assert (captured.status, reload(order).status) == ("succeeded", "paid")
    cancel_order(user_id=other.user_id, order_id=other.id, reason="", now=timezone.now())
    poll_due_payments(now=soon(1))
    assert server.intents[other_session["payment_intent"]]["status"] == "canceled"
    assert reload(other).payment_status == "unpaid"
    # a capture that comes again finds it done
    again = registry.get_provider("stripe").capture_payment(captured.key, Money(captured.amount, captured.currency))
    assert again.status == AttemptStatus.SUCCEEDED


def test_a_cancelled_order_ends_its_session_and_one_that_was_paid_meanwhile_is_told(server, provider):
    order, _, session = order_and_session(server)
    paid, attempt, paid_session = order_and_session(server)
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    poll_due_payments(now=soon(1))
    assert session["status"] == "expired"
    server.pay(paid_session["id"])
    assert provider.cancel_payment(attempt.key).status == AttemptStatus.SUCCEEDED
    assert tell(session, "checkout.session.expired") == "ignored"
    assert reload(paid).status == "pending_payment"


def test_money_goes_back_and_its_end_is_told_or_asked(server, provider):
    order, _, session = order_and_session(server)
    server.pay(session["id"])
    tell(session, "checkout.session.completed")
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    drive_due_refunds(now=soon(1))
    [refund] = server.refunds.values()
    assert (refund["amount"], refund["metadata"]) == (1234, {"reference": f"re_{order.id}_1"})
    assert [each.status for each in refunds_of(order.id)] == ["processing"]
    server.settle_refunds()
    assert tell(refund, "refund.updated") == "applied"
    assert reload(order).status == "refunded"
    assert kinds_of(order)[-1] == "refunded"
    assert len(server.refunds) == 1


def test_a_refund_that_failed_is_tried_again_under_another_key(server, provider):
    order, _, session = order_and_session(server)
    server.pay(session["id"])
    tell(session, "checkout.session.completed")
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    drive_due_refunds(now=soon(1))
    server.settle_refunds("failed")
    [refund] = server.refunds.values()
    assert tell(refund, "refund.failed") == "applied"
    refund["amount"] = 0  # Stripe counts a failed refund's money as not refunded
    drive_due_refunds(now=soon(30))
    assert [each["metadata"]["reference"] for each in server.refunds.values()] == [
        f"re_{order.id}_1",
        f"re_{order.id}_1_t2",
    ]


def test_the_days_transactions_are_the_settlement_file(server, provider):
    paid = []
    for _ in range(3):
        order, _, session = order_and_session(server)
        server.pay(session["id"])
        paid.append(order)
    today = timezone.now().date()
    report = reconcile(provider="stripe", day=today, now=timezone.now())
    assert (report.is_finished, report.line_count) == (True, 3)
    assert [reload(order).status for order in paid] == ["paid"] * 3
    rows = Difference.objects.filter(provider="stripe", reference__in=[f"pay_{order.id}_1" for order in paid])
    assert {(row.kind, row.state) for row in rows} == {("missing_here", "mended")}


def test_silence_and_stripes_own_errors_are_no_refusal(server, provider):
    wanted = PaymentOrder("pay_1_1", Decimal("1.00"), "GBP", "", "")
    server.status = 500
    with pytest.raises(ProviderUnavailable):
        provider.create_payment(wanted)
    server.status, server.delay_s = 200, 1.0
    with pytest.raises(ProviderTimeout):
        provider.create_payment(wanted)


def test_what_stripe_does_not_know_or_refuses_is_told(server, provider):
    for key in (PaymentKey("pay_1_1"), PaymentKey("pay_1_1", "cs_none")):
        with pytest.raises(UnknownAtProvider):
            provider.fetch_payment(key)
    provider.create_payment(PaymentOrder("pay_1_1", Decimal("1.00"), "GBP", "", ""))
    with pytest.raises(ProviderRefused):
        provider.create_payment(PaymentOrder("pay_1_1", Decimal("2.00"), "GBP", "", ""))
    with pytest.raises(ProviderRefused):
        provider.create_payment(PaymentOrder("pay_1_2", Decimal("1.005"), "GBP", "", ""))


@pytest.mark.parametrize(("amount", "currency", "units"), [("500", "JPY", 500), ("1.234", "KWD", 1234)])
def test_amounts_go_in_the_currencys_smallest_units(server, provider, amount, currency, units):
    outcome = provider.create_payment(PaymentOrder("pay_1_1", Decimal(amount), currency, "", ""))
    assert server.sessions[outcome.provider_id]["amount_total"] == units
    assert outcome.money == (Decimal(amount), currency)


def test_a_forged_stale_or_meaningless_delivery_is_refused(server, provider):
    _, _, session = order_and_session(server)
    for fields in ({"secret": "whsec_other"}, {"at_s": 1}):
        with pytest.raises(SignatureInvalid):
            tell(session, "checkout.session.completed", **fields)
    with pytest.raises(SignatureInvalid):
        receive_callback(provider="stripe", headers=CaseInsensitiveDict(), raw_body=b"\xff", now=timezone.now())
    with pytest.raises(CallbackMalformed):
        tell({"object": "customer", "id": "cus_1"}, "customer.created")
    # another account's event is stored without effect
    assert tell(session, "checkout.session.completed", account="acct_other") == "mismatch"
