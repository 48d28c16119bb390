"""The sandbox as a process: outcomes, signatures, repeats, what a kill leaves, and what it refuses."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from deploy.sandbox.configuration import ConfigurationError, from_environment
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header
from tests.factories.payments import SECRET, Listener, running_sandbox, wait_until


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def sandbox(tmp_path, listener):
    with running_sandbox(tmp_path, callback_url=listener.url) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def shared_sandbox(tmp_path_factory):
    """One process for all tests that only see it refuse."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), callback_url="http://127.0.0.1:9/") as sandbox:
        yield sandbox


def create(sandbox, reference="pay_1_1", amount="12.34", **fields):
    body = {"reference": reference, "amount": amount, "currency": "GBP", **fields}
    answer = sandbox.call("POST", "/v1/payments", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("outcome", "status", "delivery_count"),
    [("succeed", "succeeded", 1), ("fail", "failed", 1), ("twice", "succeeded", 2), ("silent", "succeeded", 0)],
)
def test_an_outcome_changes_the_state_and_is_told_as_often_as_it_says(
    sandbox, listener, outcome, status, delivery_count
):
    # given a payment that the shopper has to decide
    payment = create(sandbox)
    assert payment["status"] == "requires_action"
    # when the shopper decides
    answer = sandbox.pay(payment["redirect_url"], outcome)
    # then the state is the outcome's, and so many deliveries of one event come
    assert answer.json()["status"] == status
    wait_until(lambda: len(listener.deliveries) >= delivery_count, what="the callbacks", within_s=5)
    time.sleep(0.3)
    events = listener.events()
    assert len(events) == delivery_count
    assert len({event["event_id"] for event in events}) == min(delivery_count, 1)
    assert {(e["type"], e["payment"]["amount"], e["payment"]["currency"], e["account"]) for e in events} <= {
        (f"payment.{status}", "12.34", "GBP", "floodgate")
    }
    assert sandbox.payment("pay_1_1")["status"] == status


def test_a_delivery_is_signed_over_its_very_bytes_at_the_time_it_is_sent(sandbox, listener):
    sandbox.pay(create(sandbox)["redirect_url"], "succeed")
    wait_until(lambda: listener.deliveries, what="the callback")
    arrived_at, headers, body = listener.deliveries[0]
    signed_at_s = int(re.match(r"t=(\d+),", headers[SIGNATURE_HEADER])[1])
    assert abs(arrived_at - signed_at_s) < 3
    assert headers[SIGNATURE_HEADER] == signature_header(secret=SECRET, body=body, at_s=signed_at_s)


def test_a_delayed_outcome_comes_after_its_delay_and_not_before(sandbox, listener):
    payment = create(sandbox)
    decided_at = time.time()
    answer = sandbox.pay(payment["redirect_url"], "succeed", delay_s=1.5)
    assert answer.json()["status"] == "processing"
    wait_until(lambda: listener.deliveries, what="the callback", within_s=6.5)
    assert listener.deliveries[0][0] - decided_at >= 1.5


def test_a_delivery_that_is_refused_comes_again_signed_afresh_until_it_is_taken(sandbox, listener):
    # given a merchant that is down
    listener.status = 503
    sandbox.pay(create(sandbox)["redirect_url"], "succeed")
    wait_until(lambda: len(listener.deliveries) >= 2, what="the second try")
    # when it is up again
    listener.status = 200
    wait_until(lambda: len(listener.deliveries) >= 3, what="the third try")
    time.sleep(1.0)
    # then the same event was sent until it was taken, each time with a signature of that time
    assert len(listener.deliveries) == 3
    assert len({event["event_id"] for event in listener.events()}) == 1
    assert len({headers[SIGNATURE_HEADER] for _, headers, _ in listener.deliveries}) == 3


def test_the_same_request_again_gets_the_same_payment(sandbox):
    with ThreadPoolExecutor(8) as pool:
        urls = {answer["redirect_url"] for answer in pool.map(lambda _: create(sandbox), range(24))}
    assert len(urls) == 1
    other = sandbox.call("POST", "/v1/payments", json={"reference": "pay_1_1", "amount": "1", "currency": "GBP"})
    assert other.status_code == 409


def test_a_kill_loses_neither_the_payment_nor_the_outcome_nor_the_callback_that_is_owed(sandbox, listener):
    # given one payment that is decided with a delay, and one whose callback nobody has taken
    listener.status = 503
    delayed, owed = create(sandbox, "pay_1_1"), create(sandbox, "pay_2_1")
    sandbox.pay(delayed["redirect_url"], "succeed", delay_s=1)
    sandbox.pay(owed["redirect_url"], "fail")
    wait_until(lambda: listener.events("pay_2_1"), what="a first try")
    # when the sandbox is killed and started again
    sandbox.kill()
    listener.status = 200
    listener.deliveries.clear()
    sandbox.start()
    # then both callbacks come, and the pages are where they were
    wait_until(lambda: listener.events("pay_1_1") and listener.events("pay_2_1"), what="both callbacks")
    assert create(sandbox, "pay_1_1")["redirect_url"] == delayed["redirect_url"]
    assert sandbox.payment("pay_1_1")["status"] == "succeeded"
    assert sandbox.payment("pay_2_1")["status"] == "failed"


def test_a_choice_is_made_once(sandbox):
    payment = create(sandbox)
    assert sandbox.pay(payment["redirect_url"], "succeed").status_code == 200
    assert sandbox.pay(payment["redirect_url"], "succeed").status_code == 200
    assert sandbox.pay(payment["redirect_url"], "fail").status_code == 409
    assert sandbox.payment("pay_1_1")["status"] == "succeeded"


def test_a_cancelled_payment_can_be_paid_all_the_same_and_a_decided_one_cannot_be_cancelled(sandbox, listener):
    # given a payment that the merchant cancelled
    payment = create(sandbox)
    assert sandbox.call("POST", "/v1/payments/pay_1_1/cancel").json()["status"] == "cancelled"
    # when the shopper pays on the page that is still open
    sandbox.pay(payment["redirect_url"], "succeed")
    # then the money is there, and the merchant is told
    assert sandbox.call("POST", "/v1/payments/pay_1_1/cancel").json()["status"] == "succeeded"
    wait_until(lambda: listener.deliveries, what="the callback")


def test_refunds_end_by_themselves_and_never_pass_the_payment(sandbox, listener):
    sandbox.pay(create(sandbox)["redirect_url"], "silent")

    def refund(reference, amount):
        body = {"reference": reference, "payment_reference": "pay_1_1", "amount": amount, "currency": "GBP"}
        return sandbox.call("POST", "/v1/refunds", json=body)

    # when refunds are asked for, one of them twice, one too many
    assert refund("re_1_1", "10.00").json()["status"] == "processing"
    assert refund("re_1_1", "10.00").status_code == 200
    assert refund("re_1_1", "9.00").status_code == 409
    assert refund("re_1_2", "2.35").status_code == 409
    assert refund("re_1_2", "2.34").status_code == 200
    # then both end, and are told
    wait_until(lambda: len(listener.events()) == 2, what="both callbacks")
    assert {event["type"] for event in listener.events()} == {"refund.succeeded"}
    assert sandbox.call("GET", "/v1/refunds/re_1_1").json()["status"] == "succeeded"
    assert sandbox.payment("pay_1_1")["refunded_amount"] == "12.34"


def test_what_was_not_paid_cannot_be_refunded(sandbox):
    create(sandbox)
    body = {"reference": "re_1_1", "payment_reference": "pay_1_1", "amount": "1", "currency": "GBP"}
    assert sandbox.call("POST", "/v1/refunds", json=body).status_code == 409
    assert sandbox.call("POST", "/v1/refunds", json={**body, "payment_reference": "pay_9_9"}).status_code == 404


def test_the_page_shows_buttons_that_work(sandbox):
    payment = create(sandbox, return_url="https://shop.example/?a=1&b=<2>")
    page = requests.get(payment["redirect_url"], timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert 'value="succeed"' in page.text
    assert "&lt;2&gt;" in page.text
    pressed = requests.post(payment["redirect_url"], data={"outcome": "fail"}, timeout=10)
    assert pressed.status_code == 200  # after the redirect to the page
    assert "failed" in pressed.text
    assert 'value="succeed"' not in pressed.text


@pytest.mark.parametrize(
    "body",
    [
        "", "x", "[]", "null", "{}", '{"outcome": 1}', '{"outcome": "lose"}', '{"outcome": "fail", "more": 1}',
        '{"outcome": "fail", "delay_s": -1}', '{"outcome": "fail", "delay_s": 3601}',
        '{"outcome": "fail", "delay_s": true}', '{"outcome": "fail", "delay_s": "1"}',
        '{"outcome": "fail", "delay_s": NaN}', '{"outcome": "fail", "delay_s": null}', "[" * 50_000,
    ],
)  # fmt: skip
def test_a_decision_that_makes_no_sense_is_refused_and_decides_nothing(shared_sandbox, body):
    payment = create(shared_sandbox, "pay_3_1")
    answer = requests.post(payment["redirect_url"], data=body, headers={"Content-Type": "application/json"}, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"
    assert shared_sandbox.payment("pay_3_1")["status"] == "requires_action"


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/", {}, 404),
        ("GET", "/pay/unknown", {}, 404),
        ("POST", "/pay/unknown", {"json": {"outcome": "fail"}}, 404),
        ("GET", "/v1/payments/pay_9_9", {}, 404),
        ("POST", "/v1/payments/pay_9_9/cancel", {}, 404),
        ("DELETE", "/v1/payments/pay_9_9", {}, 405),
        ("GET", "/v1/payments", {}, 405),
        ("GET", "/v1/payments/pay_9_9", {"headers": {"Authorization": "Bearer x"}}, 401),
        ("POST", "/v1/payments", {"json": {"reference": "a b", "amount": "1", "currency": "GBP"}}, 400),
        ("POST", "/v1/payments", {"json": {"reference": "a", "amount": "-1", "currency": "GBP"}}, 400),
        ("POST", "/v1/payments", {"json": {"reference": "a", "amount": "0", "currency": "GBP"}}, 400),
        ("POST", "/v1/payments", {"json": {"reference": "a", "amount": 1, "currency": "GBP"}}, 400),
        ("POST", "/v1/payments", {"json": {"reference": "a", "amount": "1", "currency": "gbp"}}, 400),
        ("POST", "/v1/payments", {"data": b"x" * 70_000}, 413),
        ("POST", "/pay/unknown", {"data": "x", "headers": {"Content-Type": "text/plain"}}, 415),
    ],
)
def test_bad_requests_are_told_as_json(shared_sandbox, method, path, options, status):
    answer = shared_sandbox.call(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"]


def test_it_ends_when_told_to(sandbox):
    assert sandbox.stop() == 0


@pytest.mark.parametrize("missing", ["FLOODGATE_SANDBOX_URL", "FLOODGATE_SANDBOX_SECRET", "FLOODGATE_VAR_DIR"])
def test_a_missing_variable_is_told_by_its_name(missing):
    environ = {
        "FLOODGATE_SANDBOX_URL": "http://127.0.0.1:8003",
        "FLOODGATE_SANDBOX_SECRET": SECRET,
        "FLOODGATE_VAR_DIR": "var",
        "FLOODGATE_INTERNAL_URL": "http://127.0.0.1:8001",
    }
    assert from_environment(environ).callback_url == "http://127.0.0.1:8001/api/v1/payments/callbacks/sandbox"
    assert from_environment(environ).track_url == "http://127.0.0.1:8001/api/v1/shipments/callbacks/sandbox"
    del environ[missing]
    with pytest.raises(ConfigurationError, match=missing):
        from_environment(environ)
