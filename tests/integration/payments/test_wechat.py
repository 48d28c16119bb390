"""WeChat Pay's adapter against a server that speaks its protocol and signs as it does."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from requests.structures import CaseInsensitiveDict

from apps.orders.api.payments import payment_json
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment import receive_callback
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
from apps.payments.models import Attempt, Refund
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, refunds_of
from apps.payments.types import AttemptStatus, PaymentKey, PaymentOrder
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.payments import reload, start, unpaid_order
from tests.factories.wechat_server import WeChatServer

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(scope="module")
def keys():
    running = WeChatServer()
    yield running
    running.close()


@pytest.fixture
def server(keys, settings):
    keys.trades, keys.refunds, keys.status, keys.forged, keys.delay_s = {}, {}, 200, False, 0.0
    settings.PAYMENT_PROVIDERS = {"wechat": keys.options()}
    registry._build.cache_clear()
    yield keys
    registry._build.cache_clear()


def opened(**fields):
    order = unpaid_order(currency="CNY", **fields)
    return order, start(order, provider="wechat")


def tell(server, contents, kind, **fields):
    body, headers = server.delivery(contents, kind, **fields)
    return receive_callback(provider="wechat", headers=CaseInsensitiveDict(headers), raw_body=body, now=timezone.now())


def soon(seconds=30):
    return timezone.now() + timedelta(seconds=seconds)


def test_a_payment_is_a_code_to_be_scanned_and_opened_once(server, alias):
    order, attempt = opened(alias=alias)
    shown = payment_json(attempt)
    assert shown["next_action"] == {"type": "qr", "url": f"weixin://wxpay/bizpayurl?pr={attempt.payment_id}"}
    assert shown["redirect_url"] is None
    assert server.trades[attempt.payment_id]["amount"] == {"total": 1234, "currency": "CNY"}
    wanted = PaymentOrder(attempt.payment_id, Decimal("12.34"), "CNY", "", "")
    provider = registry.get_provider("wechat")
    assert provider.create_payment(wanted).status == AttemptStatus.REQUIRES_ACTION
    server.pay(attempt.payment_id)
    assert provider.create_payment(wanted).status == AttemptStatus.SUCCEEDED
    assert provider.capture_payment(attempt.key, wanted.amount).status == AttemptStatus.SUCCEEDED
    assert reload(order).status == "pending_payment"


def test_the_encrypted_delivery_pays_the_order_once(server):
    order, attempt = opened()
    trade = server.pay(attempt.payment_id)
    assert tell(server, trade, "TRANSACTION.SUCCESS", event_id="e1") == "applied"
    assert tell(server, trade, "TRANSACTION.SUCCESS", event_id="e1") is None
    assert reload(order).status == "paid"
    assert get_attempt(order.id, 1).captured_amount == Decimal("12.34")


def test_a_silent_payment_is_found_and_a_cancelled_one_closed(server):
    silent, paid = opened()
    cancelled, open_ = opened()
    server.pay(paid.payment_id)
    cancel_order(user_id=cancelled.user_id, order_id=cancelled.id, reason="", now=timezone.now())
    poll_due_payments(now=soon())
    assert reload(silent).status == "paid"
    assert server.trades[open_.payment_id]["trade_state"] == "CLOSED"
    assert registry.get_provider("wechat").cancel_payment(paid.key).status == AttemptStatus.SUCCEEDED


@pytest.mark.parametrize(("told", "status"), [("SUCCESS", "succeeded"), ("ABNORMAL", "approved")])
def test_money_goes_back_and_its_end_is_told(server, told, status):
    order, attempt = opened()
    tell(server, server.pay(attempt.payment_id), "TRANSACTION.SUCCESS")
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    drive_due_refunds(now=soon(1))
    refund = server.refunds[f"re_{order.id}_1"]
    assert refund["amount"] == {"refund": 1234, "total": 1234, "currency": "CNY"}
    assert [each.status for each in refunds_of(order.id)] == ["processing"]
    contents = {**refund, "refund_status": told, "mchid": server.trades[attempt.payment_id]["mchid"]}
    assert tell(server, contents, f"REFUND.{told}") == "applied"
    assert [each.status for each in refunds_of(order.id)] == [status]


def test_the_days_bill_is_the_settlement_file(server):
    order, attempt = opened()
    tell(server, server.pay(attempt.payment_id), "TRANSACTION.SUCCESS")
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    drive_due_refunds(now=soon(1))
    server.refunds[f"re_{order.id}_1"]["status"] = "SUCCESS"
    day = timezone.now().date()
    report = reconcile(provider="wechat", day=day, now=timezone.now())
    assert (report.is_finished, report.line_count) == (True, 2)
    assert reload(order).status == "refunded"
    place, month = place_of_order(order.id), Month.of_id(order.id)
    for model in (Attempt, Refund):
        assert model.objects.at(place, month).get(order_id=order.id).settled_on == day


def test_silence_errors_and_forged_answers_are_no_refusal(server):
    provider = registry.get_provider("wechat")
    wanted = PaymentOrder("pay_1_1", Decimal("1.00"), "CNY", "", "")
    server.status = 500
    with pytest.raises(ProviderUnavailable):
        provider.create_payment(wanted)
    server.status, server.forged = 200, True
    with pytest.raises(ProviderUnavailable, match="not signed"):
        provider.create_payment(wanted)
    server.forged, server.delay_s = False, 1.0
    with pytest.raises(ProviderTimeout):
        provider.create_payment(wanted)


def test_what_is_unknown_or_cannot_be_paid_is_told(server):
    provider = registry.get_provider("wechat")
    with pytest.raises(UnknownAtProvider):
        provider.fetch_payment(PaymentKey("pay_1_1"))
    with pytest.raises(UnknownAtProvider):
        provider.cancel_payment(PaymentKey("pay_1_1"))
    for amount, currency in (("1.00", "GBP"), ("1.001", "CNY")):
        with pytest.raises(ProviderRefused):
            provider.create_payment(PaymentOrder("pay_1_1", Decimal(amount), currency, "", ""))


def test_a_forged_stale_or_meaningless_delivery_is_refused(server):
    order, attempt = opened()
    trade = server.pay(attempt.payment_id)
    for fields in ({"key": server.merchant_key}, {"at_s": 1}):
        with pytest.raises(SignatureInvalid):
            tell(server, trade, "TRANSACTION.SUCCESS", **fields)
    body, headers = server.delivery(trade, "TRANSACTION.SUCCESS")
    for changed in ({"Wechatpay-Serial": "1234"}, {"Wechatpay-Timestamp": "x"}, {"Wechatpay-Signature": "%"}):
        with pytest.raises(SignatureInvalid):
            receive_callback(
                provider="wechat",
                headers=CaseInsensitiveDict({**headers, **changed}),
                raw_body=body,
                now=timezone.now(),
            )
    with pytest.raises(CallbackMalformed):
        tell(server, {"mchid": "1"}, "TRANSACTION.SUCCESS")
    signed = server.signature("no JSON")
    with pytest.raises(CallbackMalformed):
        receive_callback(
            provider="wechat", headers=CaseInsensitiveDict(signed), raw_body=b"no JSON", now=timezone.now()
        )
    assert tell(server, {**trade, "mchid": "another"}, "TRANSACTION.SUCCESS") == "mismatch"
    assert reload(order).status == "pending_payment"
