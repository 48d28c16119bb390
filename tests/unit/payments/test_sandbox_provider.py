"""What the sandbox's client accepts as a callback, and what it makes of the other side's failures."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests

from apps.payments.errors import (
    CallbackMalformed,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    SignatureInvalid,
    UnknownAtProvider,
)
from apps.payments.providers.sandbox import SandboxProvider
from apps.payments.types import (
    AttemptStatus,
    Money,
    PaymentKey,
    PaymentOrder,
    PaymentOutcome,
    RefundOutcome,
    RefundStatus,
)
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header

SECRET = "a secret of more than thirty-two characters"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ORDER = PaymentOrder(reference="pay_1_1", amount=Decimal("5.00"), currency="GBP", method="", return_url="")


@pytest.fixture
def provider():
    return SandboxProvider(
        name="sandbox",
        account="floodgate",
        url="http://127.0.0.1:9",
        secret=SECRET,
        connect_timeout_s=0.2,
        read_timeout_s=0.2,
        max_age_s=300,
    )


def event(**changes):
    payment = {
        "reference": "pay_1_1",
        "status": "succeeded",
        "amount": "12.34",
        "currency": "GBP",
        "redirect_url": "http://sandbox/pay/x",
    }
    return {"event_id": "evt_1", "type": "payment.succeeded", "account": "floodgate", "payment": payment} | changes


def signed(body: bytes, *, at: datetime = NOW, secret: str = SECRET):
    return {SIGNATURE_HEADER: signature_header(secret=secret, body=body, at_s=int(at.timestamp()))}


def test_a_signed_delivery_is_read(provider):
    body = json.dumps(event()).encode()
    notice = provider.parse_callback(signed(body), body, now=NOW)
    assert (notice.event_id, notice.account, notice.reference) == ("evt_1", "floodgate", "pay_1_1")
    assert notice.outcome == PaymentOutcome(
        AttemptStatus.SUCCEEDED, Money(Decimal("12.34"), "GBP"), "http://sandbox/pay/x"
    )
    assert notice.raw_body == body


def test_a_signed_delivery_about_a_refund_is_read(provider):
    refund = {"reference": "re_1_1", "status": "succeeded", "amount": "1", "currency": "GBP"}
    body = json.dumps(event(type="refund.succeeded", refund=refund)).encode()
    notice = provider.parse_callback(signed(body), body, now=NOW)
    assert notice.outcome == RefundOutcome(RefundStatus.SUCCEEDED, Money(Decimal(1), "GBP"))


@pytest.mark.parametrize("age_s", [-301, 301, 86400])
def test_a_signature_from_another_time_is_stale(provider, age_s):
    body = json.dumps(event()).encode()
    with pytest.raises(SignatureInvalid):
        provider.parse_callback(signed(body, at=NOW - timedelta(seconds=age_s)), body, now=NOW)


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_a_signature_of_the_last_five_minutes_is_fresh(provider, age_s):
    body = json.dumps(event()).encode()
    assert provider.parse_callback(signed(body, at=NOW - timedelta(seconds=age_s)), body, now=NOW)


def test_a_body_that_was_changed_by_one_byte_is_refused(provider):
    body = json.dumps(event()).encode()
    with pytest.raises(SignatureInvalid):
        provider.parse_callback(signed(body), body + b" ", now=NOW)


def test_a_signature_under_another_secret_is_refused(provider):
    body = json.dumps(event()).encode()
    with pytest.raises(SignatureInvalid):
        provider.parse_callback(signed(body, secret=SECRET + "x"), body, now=NOW)


def test_the_signed_time_cannot_be_replaced(provider):
    body = json.dumps(event()).encode()
    old = signed(body, at=NOW - timedelta(hours=1))[SIGNATURE_HEADER]
    fresh = old.replace(old.split(",")[0], f"t={int(NOW.timestamp())}")
    with pytest.raises(SignatureInvalid):
        provider.parse_callback({SIGNATURE_HEADER: fresh}, body, now=NOW)


@pytest.mark.parametrize(
    "header", ["", "t=1", "v1=00", "t=x,v1=" + "0" * 64, "t=1,v1=" + "0" * 63, "t=" + "9" * 400 + ",v1=" + "0" * 64]
)
def test_a_header_of_another_form_is_refused(provider, header):
    with pytest.raises(SignatureInvalid):
        provider.parse_callback({SIGNATURE_HEADER: header}, b"{}", now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b"[" * 100_000,
        json.dumps(event(type="invoice.paid")).encode(),
        json.dumps(event(type=7)).encode(),
        json.dumps(event(event_id=7)).encode(),
        json.dumps(event(event_id="")).encode(),
        json.dumps(event(event_id="e" * 129)).encode(),
        json.dumps(event(event_id="\u00e9")).encode(),
        json.dumps(event(payment=None)).encode(),
        json.dumps(event(payment={"reference": "pay_1_1", "status": "odd"})).encode(),
        json.dumps(event(payment={**event()["payment"], "amount": 12.34})).encode(),
        json.dumps(event(payment={**event()["payment"], "amount": "NaN"})).encode(),
        json.dumps(event(payment={**event()["payment"], "reference": ["x"]})).encode(),
    ],
)
def test_a_good_signature_on_a_body_that_means_nothing_is_told_as_malformed(provider, body):
    with pytest.raises(CallbackMalformed):
        provider.parse_callback(signed(body), body, now=NOW)


def test_a_provider_that_cannot_be_reached_leaves_the_outcome_open(provider):
    with pytest.raises(ProviderUnavailable):
        provider.create_payment(ORDER)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, UnknownAtProvider),
        (400, ProviderRefused),
        (409, ProviderRefused),
        (401, ProviderUnavailable),
        (429, ProviderUnavailable),
        (500, ProviderUnavailable),
        (503, ProviderUnavailable),
    ],
)
def test_the_status_of_an_answer_tells_whether_trying_again_is_of_use(provider, monkeypatch, status, error):
    answer(monkeypatch, provider, status, b'{"error": {}}')
    with pytest.raises(error) as told:
        provider.create_payment(ORDER)
    assert type(told.value) is error


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"status": "odd"}'])
def test_an_answer_that_is_not_understood_leaves_the_outcome_open(provider, monkeypatch, body):
    answer(monkeypatch, provider, 200, body)
    with pytest.raises(ProviderUnavailable):
        provider.create_payment(ORDER)


def test_an_answer_that_does_not_come_is_a_timeout(provider, monkeypatch):
    def hang(*args, **kwargs):
        assert kwargs["timeout"] == (0.2, 0.2)
        raise requests.ReadTimeout

    monkeypatch.setattr(provider._session, "request", hang)
    with pytest.raises(ProviderTimeout):
        provider.fetch_payment(PaymentKey("pay_1_1"))


def test_a_provider_that_is_down_is_left_alone_for_a_while(provider, monkeypatch):
    # given a provider that did not answer five times in a row
    calls = []

    def hang(*args, **kwargs):
        calls.append(args)
        raise requests.ConnectTimeout

    monkeypatch.setattr(provider._session, "request", hang)
    for _ in range(5):
        with pytest.raises(ProviderTimeout):
            provider.fetch_payment(PaymentKey("pay_1_1"))
    # then the next call fails at once, without the network
    with pytest.raises(ProviderUnavailable):
        provider.fetch_payment(PaymentKey("pay_1_1"))
    assert len(calls) == 5


def test_refusals_do_not_count_as_silence(provider, monkeypatch):
    answer(monkeypatch, provider, 409, b"{}")
    for _ in range(20):
        with pytest.raises(ProviderRefused):
            provider.create_payment(ORDER)


def answer(monkeypatch, provider, status, body):
    response = requests.Response()
    response.status_code, response._content = status, body
    monkeypatch.setattr(provider._session, "request", lambda *args, **kwargs: response)
