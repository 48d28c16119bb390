"""Payments while the bank, the web server, a worker or a shard is killed: money is neither lost nor taken twice."""

import hashlib
import hmac
import json
import secrets
import signal
import time

import pytest
import requests

from tests.e2e.stack import Shopper, Stack, wait_for


@pytest.fixture(scope="module")
def by_shard(stack):
    return stack.shoppers_by_shard(8)


def start_payment(shopper: Shopper, order_id: str, *, key: str | None = None) -> requests.Response:
    return shopper.call(
        "POST", f"/orders/{order_id}/payments", key=key or secrets.token_hex(8), json={"provider": "sandbox"}
    )


def placed(stack: Stack, shopper: Shopper) -> dict:
    [sku] = stack.skus(1)
    answer = shopper.place((sku, 1))
    assert answer.status_code == 201, answer.text
    return answer.json()


def results(shopper: Shopper, order_id: str, what: str) -> list[dict]:
    return shopper.call("GET", f"/orders/{order_id}/{what}").json()["results"]


def test_a_script_that_has_the_secret_can_play_the_bank(healthy, by_shard):
    # given the secret as the contract's command prints it, and a started payment on each shard
    secret = healthy.manage("sandbox_secret").stdout.splitlines()[-1]
    for shoppers in by_shard.values():
        shopper = shoppers[0]
        order = placed(healthy, shopper)
        payment = start_payment(shopper, order["id"]).json()
        body, headers = _signed(secret, payment)
        url = healthy.api + "/payments/callbacks/sandbox"
        # when the delivery is changed, it is refused; as it is, it pays the order, once
        assert requests.post(url, data=body + b" ", headers=headers, timeout=10).status_code == 401
        for _ in range(3):
            assert requests.post(url, data=body, headers=headers, timeout=10).status_code == 200
        paid = shopper.order(order["id"])
        assert paid["status"] == "paid"
        kinds = [event["kind"] for event in results(shopper, order["id"], "events")]
        assert kinds.count("paid") == 1


def test_a_bank_that_is_killed_still_settles_what_was_decided(healthy, by_shard):
    # given a payment that the shopper has decided, with a delay
    shopper = by_shard["shard_0"][0]
    order = placed(healthy, shopper)
    shopper.pay(order["id"], "succeed", delay_s=2)
    # when the bank is killed before it is due
    healthy.signal("sandbox", signal.SIGKILL)
    # then it pays after its return
    shopper.wait_for_status(order["id"], "paid", within_s=40)


def test_a_payment_that_met_a_dead_bank_goes_on_under_its_key(healthy, by_shard):
    # given a bank that does not answer
    shopper = by_shard["shard_1"][0]
    order = placed(healthy, shopper)
    healthy.signal("sandbox", signal.SIGSTOP)
    key = secrets.token_hex(8)
    began_at = time.monotonic()
    refused = start_payment(shopper, order["id"], key=key)
    assert refused.status_code in (502, 504), refused.text
    assert time.monotonic() - began_at < 10
    # when it is back
    healthy.signal("sandbox", signal.SIGCONT)

    def started() -> requests.Response | None:
        answer = start_payment(shopper, order["id"], key=key)
        return answer if answer.status_code == 201 else None

    payment = wait_for("the repeat's success", started, within_s=20).json()
    # then it is the same and only payment, and can be paid
    assert payment["payment_id"] == f"pay_{order['id']}_1"
    assert len(results(shopper, order["id"], "payments")) == 1
    requests.post(payment["redirect_url"], json={"outcome": "twice"}, timeout=10).raise_for_status()
    shopper.wait_for_status(order["id"], "paid", within_s=15)


def test_a_callback_that_meets_a_dead_web_server_comes_again(healthy, by_shard):
    shopper = by_shard["shard_0"][1]
    order = placed(healthy, shopper)
    shopper.pay(order["id"], "succeed", delay_s=1)
    healthy.signal("gunicorn", signal.SIGKILL)
    healthy.wait_until_ok()
    shopper.wait_for_status(order["id"], "paid", within_s=20)


def test_a_callback_that_meets_a_stopped_shard_is_told_to_come_again(healthy, by_shard):
    # given a started payment on the second shard
    secret = healthy.manage("sandbox_secret").stdout.splitlines()[-1]
    shopper = by_shard["shard_1"][1]
    order = placed(healthy, shopper)
    body, headers = _signed(secret, start_payment(shopper, order["id"]).json())
    url = healthy.api + "/payments/callbacks/sandbox"
    # when its callback arrives while the shard is stopped
    healthy.signal("mariadb-shard-1", signal.SIGSTOP)
    assert requests.post(url, data=body, headers=headers, timeout=10).status_code == 503
    healthy.signal("mariadb-shard-1", signal.SIGCONT)
    # then the same delivery is taken once the shard is back
    wait_for(
        "the delivery's success",
        lambda: requests.post(url, data=body, headers=headers, timeout=10).status_code == 200,
        within_s=30,
    )
    assert shopper.wait_for_status(order["id"], "paid", within_s=10)


@pytest.mark.parametrize("victim", ["celery-worker", "sandbox"])
def test_a_refund_is_driven_to_its_end_whoever_is_killed_meanwhile(healthy, by_shard, victim):
    # given a paid order
    shopper = by_shard["shard_1"][2]
    order = placed(healthy, shopper)
    shopper.pay(order["id"])
    shopper.wait_for_status(order["id"], "paid", within_s=15)
    # when it is cancelled while a process dies that the refund needs
    healthy.signal(victim, signal.SIGKILL)
    assert shopper.call("POST", f"/orders/{order['id']}/cancel", json={}).json()["status"] == "refunding"
    healthy.wait_until_ok()
    # then all of it is back, once
    ended = shopper.wait_for_status(order["id"], "refunded", within_s=40)
    assert ended["refunded_total"] == ended["total"]
    assert [refund["status"] for refund in results(shopper, order["id"], "refunds")] == ["succeeded"]


def test_of_two_attempts_that_are_both_paid_one_is_given_back(healthy, by_shard):
    # given a shopper with two payment pages open, who pays on both
    shopper = by_shard["shard_0"][2]
    order = placed(healthy, shopper)
    pages = [start_payment(shopper, order["id"]).json() for _ in range(2)]
    for page in pages:
        requests.post(page["redirect_url"], json={"outcome": "succeed"}, timeout=10).raise_for_status()
    # then the order is paid by the newer, and the older goes back
    paid = shopper.wait_for_status(order["id"], "paid", within_s=15)

    def given_back() -> bool:
        return [refund["status"] for refund in results(shopper, order["id"], "refunds")] == ["succeeded"]

    wait_for("the refund", given_back, within_s=30)
    payments = results(shopper, order["id"], "payments")
    assert [(payment["status"], payment["unexpected"]) for payment in payments] == [
        ("succeeded", True),
        ("succeeded", False),
    ]
    assert shopper.order(order["id"])["status"] == paid["status"] == "paid"


def _signed(secret: str, payment: dict) -> tuple[bytes, dict[str, str]]:
    """Return a delivery that tells of the payment's success, signed as docs/payments.md says."""
    contents = {
        "reference": payment["payment_id"],
        "status": "succeeded",
        "amount": payment["amount"],
        "currency": payment["currency"],
        "redirect_url": payment["redirect_url"],
    }
    event = {
        "event_id": f"evt_{secrets.token_hex(8)}",
        "type": "payment.succeeded",
        "account": "floodgate",
        "payment": contents,
    }
    body, at_s = json.dumps(event).encode(), int(time.time())
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Content-Type": "application/json", "Sandbox-Signature": f"t={at_s},v1={digest}"}
