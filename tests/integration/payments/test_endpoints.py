"""The endpoints of payments and refunds over HTTP: shapes, statuses, and whose payments they are."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment_sweeps import drive_due_refunds
from apps.payments.errors import ProviderTimeout
from apps.payments.selectors import attempts_of
from apps.users.types import Shopper
from deploy.sandbox.signing import signature_header
from tests.factories.orders import make_sku
from tests.factories.payments import SECRET, delivery, paid_order, reload, shopper_id, unpaid_order

pytestmark = pytest.mark.usefixtures("committed")


def client_of(user_id):
    client = APIClient()
    client.force_authenticate(user=Shopper(user_id=user_id, session_id="1", exempt=True))
    return client


def pay(order, *, key="k", body=None, client=None):
    return (client or client_of(order.user_id)).post(
        f"/api/v1/orders/{order.id}/payments",
        body if body is not None else {"provider": "sandbox"},
        format="json",
        headers={"Idempotency-Key": key} if key else {},
    )


def call_back(body, headers, *, content_type="application/json", provider="sandbox"):
    return APIClient().generic(
        "POST", f"/api/v1/payments/callbacks/{provider}", body, content_type=content_type, headers=headers
    )


def test_a_payment_is_started_shown_and_listed(bank, alias, settings):
    settings.PAYMENT_RETURN_URLS = ["https://shop.example"]
    order = unpaid_order(alias=alias, total="1234.50")
    # when it is started with all that a client may say
    answer = pay(order, body={"provider": "sandbox", "method": "card", "return_url": "https://shop.example/ok"})
    # then the answer is the contract's payment
    assert answer.status_code == 201, answer.content
    payment = answer.json()
    assert payment["payment_id"] == f"pay_{order.id}_1"
    assert (payment["status"], payment["amount"], payment["currency"]) == ("requires_action", "1234.50", "GBP")
    assert payment["next_action"] == {"type": "redirect", "url": payment["redirect_url"]}
    assert payment["expires_at"].endswith("Z")
    assert answer.headers["Location"] == f"/api/v1/orders/{order.id}/payments/{payment['payment_id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    # and it can be read again, alone and in the list
    client = client_of(order.user_id)
    assert client.get(answer.headers["Location"]).json() == payment
    assert client.get(f"/api/v1/orders/{order.id}/payments").json() == {"results": [payment], "next": None}


def test_amounts_have_the_decimals_of_their_currency(bank):
    order = unpaid_order(total="500", currency="JPY")
    assert pay(order).json()["amount"] == "500"


def test_a_repeat_is_marked_and_equal(bank):
    order = unpaid_order()
    first, again = pay(order), pay(order)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert pay(order, body={"provider": "sandbox", "method": "card"}).json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "/provider"),
        ({"provider": 1}, "/provider"),
        ({"provider": "nobody"}, "/provider"),
        ({"provider": "sandbox", "amount": "1.00"}, "/amount"),
        ({"provider": "sandbox", "method": "Card!"}, "/method"),
        ({"provider": "sandbox", "method": 7}, "/method"),
        ({"provider": "sandbox", "method": ["a"]}, "/method"),
        ({"provider": "sandbox", "return_url": "https://evil.example/"}, "/return_url"),
        ({"provider": "sandbox", "return_url": "x" * 3000}, "/return_url"),
        ({"provider": "sandbox", "return_url": ""}, "/return_url"),
        ([], ""),
    ],
)
def test_a_bad_request_is_refused_by_field_and_starts_nothing(bank, body, field):
    order = unpaid_order()
    answer = pay(order, body=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert attempts_of(order.id) == []


def test_a_missing_key_is_refused(bank):
    answer = pay(unpaid_order(), key=None)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "header:Idempotency-Key")


def test_a_provider_that_does_not_answer_is_a_gateway_timeout_and_the_key_goes_on(bank, monkeypatch):
    order = unpaid_order()

    def hang(attempt):
        raise ProviderTimeout("The payment provider did not answer in time.")

    with monkeypatch.context() as hanging:
        hanging.setattr("apps.payments.services.ask_provider", hang)
        answer = pay(order)
        assert (answer.status_code, answer.json()["code"]) == (504, "upstream_timeout")
    assert pay(order).status_code == 201
    assert len(attempts_of(order.id)) == 1


def test_a_closed_order_cannot_be_paid(bank):
    order = unpaid_order()
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    answer = pay(order)
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


@pytest.mark.parametrize("path", ["payments", "payments/pay_{id}_1", "refunds", "refunds/re_{id}_1"])
def test_another_shoppers_payments_are_not_found(bank, path):
    order = unpaid_order()
    pay(order)
    stranger = client_of(shopper_id())
    answer = stranger.get(f"/api/v1/orders/{order.id}/{path.format(id=order.id)}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert pay(order, key="other", client=stranger).status_code == 404


@pytest.mark.parametrize("payment_id", ["pay_1_1", "pay_{id}_2", "re_{id}_1", "pay_{id}_1x", "%00", "x"])
def test_a_payment_that_is_not_this_orders_is_not_found(bank, payment_id):
    order = unpaid_order()
    pay(order)
    path = f"/api/v1/orders/{order.id}/payments/{payment_id.format(id=order.id)}"
    assert client_of(order.user_id).get(path).status_code == 404


def test_refunds_are_shown_and_listed(bank):
    # given a paid order that was cancelled
    order = unpaid_order()
    payment = pay(order).json()
    bank.pay(payment["redirect_url"], "silent")
    assert call_back(*delivery(payment["payment_id"], "succeeded", amount="12.34")).status_code == 200
    client = client_of(order.user_id)
    assert client.post(f"/api/v1/orders/{order.id}/cancel", {}, format="json").json()["status"] == "refunding"
    # then its refund is there, and ends
    path = f"/api/v1/orders/{order.id}/refunds"
    [refund] = client.get(path).json()["results"]
    assert refund["refund_id"] == f"re_{order.id}_1"
    assert refund["payment_id"] == payment["payment_id"]
    assert (refund["status"], refund["amount"], refund["items"]) == (
        "approved",
        "12.34",
        [{"sku": "TEST-1", "quantity": 2}],
    )
    drive_due_refunds(now=timezone.now() + timedelta(seconds=1))
    assert client.get(f"{path}/{refund['refund_id']}").json()["status"] == "processing"
    assert client.get(f"{path}/re_{order.id}_2").status_code == 404
    assert client.get(f"{path}/pay_{order.id}_1").status_code == 404


def test_a_callback_is_answered_by_its_worth(bank, alias):
    order = unpaid_order(alias=alias)
    payment_id = pay(order).json()["payment_id"]
    body, headers = delivery(payment_id, "succeeded", amount="12.34", extra={"anything": [1]})
    # a bad signature, a stale one, none
    for bad in ({}, {"Sandbox-Signature": "t=1,v1=" + "0" * 64}):
        answer = call_back(body, bad)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
        assert "WWW-Authenticate" in answer.headers
    stale = delivery(payment_id, "succeeded", amount="12.34", at_s=0)
    assert call_back(*stale).status_code == 401
    # other money
    assert call_back(*delivery(payment_id, "succeeded", amount="1.00")).status_code == 200
    assert reload(order).status == "pending_payment"
    # an unknown reference and an unknown provider
    assert call_back(*delivery(f"pay_{order.id}_9", "succeeded", amount="12.34")).status_code == 404
    assert call_back(body, headers, provider="nobody").status_code == 404
    # the real one, in any media type, and again
    for content_type in ("text/plain; charset=latin-1", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = call_back(body, {**headers, "Accept": "text/xml"}, content_type=content_type)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert reload(order).status == "paid"


def test_a_malformed_body_with_a_good_signature_is_a_bad_request(bank):
    body = b"not json"
    signed = call_back(body, {"Sandbox-Signature": sign(body)})
    assert (signed.status_code, signed.json()["code"]) == (400, "bad_request")


def test_a_callback_may_be_as_large_as_256_kib_and_no_larger(bank):
    order = unpaid_order()
    payment_id = pay(order).json()["payment_id"]
    bare = len(delivery(payment_id, "failed", amount="12.34", event_id="e", note="")[0])
    fitting = delivery(payment_id, "failed", amount="12.34", event_id="e", note="x" * (256 * 1024 - bare))
    assert len(fitting[0]) == 256 * 1024
    assert call_back(*fitting).status_code == 200
    larger = delivery(payment_id, "failed", amount="12.34", event_id="e", note="x" * (256 * 1024 - bare + 1))
    assert call_back(*larger).status_code == 413


def test_other_methods_are_not_allowed_at_the_callback_address(bank):
    answer = APIClient().get("/api/v1/payments/callbacks/sandbox")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_the_signing_secret_is_told_on_the_last_line_and_never_in_production(bank, settings, capsys):
    call_command("sandbox_secret")
    assert capsys.readouterr().out.splitlines()[-1] == SECRET
    settings.IS_PRODUCTION = True
    with pytest.raises(CommandError):
        call_command("sandbox_secret")


def sign(body):
    return signature_header(secret=SECRET, body=body, at_s=int(timezone.now().timestamp()))


def ask(order, body, *, key="k", client=None):
    return (client or client_of(order.user_id)).post(
        f"/api/v1/orders/{order.id}/refunds",
        body,
        format="json",
        headers={"Idempotency-Key": key} if key else {},
    )


def test_a_refund_of_some_units_is_asked_for_shown_and_repeated(bank, alias):
    sku = make_sku(10, price="2.50")
    order = paid_order([(sku, 3)], shard=int(alias[-1]))
    body = {"items": [{"sku": sku, "quantity": 1}, {"sku": sku, "quantity": 1}], "reason": "two are broken"}
    answer = ask(order, body)
    assert answer.status_code == 201, answer.content
    refund = answer.json()
    assert refund["refund_id"] == f"re_{order.id}_1"
    assert (refund["status"], refund["amount"], refund["currency"]) == ("approved", "5.00", "GBP")
    assert refund["items"] == [{"sku": sku, "quantity": 2}]
    assert answer.headers["Location"] == f"/api/v1/orders/{order.id}/refunds/{refund['refund_id']}"
    again = ask(order, body)
    assert (again.status_code, again.json(), again.headers["Idempotency-Replayed"]) == (201, refund, "true")
    client = client_of(order.user_id)
    assert client.get(answer.headers["Location"]).json() == refund
    assert client.get(f"/api/v1/orders/{order.id}/refunds").json()["results"] == [refund]
    assert ask(order, {**body, "reason": "other"}).json()["code"] == "idempotency_key_reused"
    # more than is left is told item by item
    refused = ask(order, body, key="other")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    [error] = refused.json()["errors"]
    assert (error["field"], error["requested"], error["refundable"]) == ("/items/0/quantity", 2, 1)


def test_a_refund_of_an_unpaid_or_a_strangers_order_is_refused(bank):
    order = unpaid_order()
    body = {"items": [{"sku": "TEST-1", "quantity": 1}], "reason": "x"}
    answer = ask(order, body)
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    assert ask(order, body, client=client_of(shopper_id())).status_code == 404
    assert ask(order, body, key=None).json()["errors"][0]["field"] == "header:Idempotency-Key"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "/items"),
        ({"items": [], "reason": "x"}, "/items"),
        ({"items": [{"sku": "TEST-1", "quantity": 0}], "reason": "x"}, "/items/0/quantity"),
        ({"items": [{"sku": "TEST-1", "quantity": "1"}], "reason": "x"}, "/items/0/quantity"),
        ({"items": [{"sku": "TEST-1", "quantity": 1}]}, "/reason"),
        ({"items": [{"sku": "TEST-1", "quantity": 1}], "reason": ""}, "/reason"),
        ({"items": [{"sku": "TEST-1", "quantity": 1}], "reason": "x", "amount": "1.00"}, "/amount"),
        ({"items": [{"sku": "OTHER", "quantity": 1}], "reason": "x"}, "/items/0/sku"),
        ({"items": [{"sku": "a b", "quantity": 1}], "reason": "x"}, "/items/0/sku"),
    ],
)
def test_a_bad_request_for_a_refund_is_refused_by_field(bank, body, field):
    answer = ask(unpaid_order(), body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert field in [error["field"] for error in answer.json()["errors"]]
