"""A shopper's way through the shop, over HTTP against the running stack."""

import secrets

import requests

from tests.e2e.stack import Shopper, Stack, wait_for

ADDRESS = {
    "name": "Ada Byron",
    "phone": "+442079460000",
    "country": "GB",
    "region": "",
    "city": "London",
    "line1": "12 St James's Square",
    "line2": "",
    "postcode": "SW1Y 4JH",
}


def _registered(stack: Stack) -> Shopper:
    name, password = f"ada-{secrets.token_hex(6)}", secrets.token_hex(12)
    made = requests.post(stack.api + "/auth/register", json={"username": name, "password": password}, timeout=10)
    assert made.status_code == 201, made.text
    pair = requests.post(stack.api + "/auth/token", json={"login": name, "password": password}, timeout=10)
    assert pair.status_code == 200, pair.text
    shopper = Shopper(stack, made.json()["user_id"], pair.json()["access"])
    address = shopper.call("POST", "/users/me/addresses", json=ADDRESS)
    assert address.status_code == 201, address.text
    shopper.address_id = address.json()["id"]
    return shopper


def test_a_new_shopper_registers_orders_pays_cancels_and_lists(stack):
    # given a shopper who has just registered
    shopper = _registered(stack)
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=5)

    # when two units are ordered and paid
    placed = shopper.place((sku, 2), note="ring twice")
    assert placed.status_code == 201, placed.text
    order = placed.json()
    assert placed.headers["Location"].endswith(f"/api/v1/orders/{order['id']}")
    assert order["status"] == "pending_payment"
    shopper.pay(order["id"])
    paid = shopper.wait_for_status(order["id"], "paid", within_s=15)

    # then the order is paid, and its units left the stock
    assert paid["payment_status"] == "paid"
    assert paid["paid_at"] is not None
    assert _available(stack, sku) == 3

    # when it is cancelled
    cancelled = shopper.call("POST", f"/orders/{order['id']}/cancel", json={"reason": "changed my mind"})
    assert cancelled.status_code == 200, cancelled.text
    refunded = shopper.wait_for_status(order["id"], "refunded", within_s=30)

    # then the money and the units are back, and the list and the events tell it
    assert refunded["refunded_total"] == order["total"]
    wait_for("the units' return", lambda: _available(stack, sku) == 5, within_s=15)
    listed = shopper.call("GET", "/orders").json()["results"]
    assert [entry["id"] for entry in listed] == [order["id"]]
    events = shopper.call("GET", f"/orders/{order['id']}/events").json()
    versions = [event["version"] for event in events["results"]]
    assert versions == list(range(1, len(versions) + 1))
    assert versions[-1] == refunded["version"]


def test_a_silent_payment_is_found_by_asking_the_provider(stack):
    # given an order
    [shopper] = stack.shoppers(1)
    [sku] = stack.skus(1)
    order = shopper.place((sku, 1)).json()
    # when the provider takes the money and says nothing
    shopper.pay(order["id"], outcome="silent")
    # then it is found out
    shopper.wait_for_status(order["id"], "paid", within_s=60)


def test_a_callback_that_comes_twice_pays_once(stack):
    # given an order
    [shopper] = stack.shoppers(1)
    [sku] = stack.skus(1)
    order = shopper.place((sku, 1)).json()
    # when the provider delivers its callback twice
    shopper.pay(order["id"], outcome="twice")
    paid = shopper.wait_for_status(order["id"], "paid", within_s=15)
    # then nothing changes after the first
    payments = shopper.call("GET", f"/orders/{order['id']}/payments").json()["results"]
    assert [payment["status"] for payment in payments] == ["succeeded"]
    assert shopper.order(order["id"])["version"] == paid["version"]


def test_a_payment_that_comes_after_the_cancel_is_given_back(stack):
    # given an order whose payment has been started
    [shopper] = stack.shoppers(1)
    [sku] = stack.skus(1)
    order = shopper.place((sku, 1)).json()
    shopper.pay(order["id"], outcome="succeed", delay_s=3)
    # when it is cancelled before the money comes
    cancelled = shopper.call("POST", f"/orders/{order['id']}/cancel", json={})
    assert cancelled.json()["status"] in {"cancelled", "refunding"}

    # then whatever was captured is refunded and the order stays closed
    def settled():
        payments = shopper.call("GET", f"/orders/{order['id']}/payments").json()["results"]
        refunds = shopper.call("GET", f"/orders/{order['id']}/refunds").json()["results"]
        captured = any(payment["status"] == "succeeded" for payment in payments)
        return not captured or any(refund["status"] == "succeeded" for refund in refunds)

    wait_for(
        "callback", lambda: len(shopper.call("GET", f"/orders/{order['id']}/payments").json()["results"]), within_s=9
    )
    wait_for("the refund of a late payment", settled, within_s=40)
    assert shopper.order(order["id"])["status"] in {"cancelled", "refunded"}


def _available(stack: Stack, sku: str) -> int:
    page = requests.get(stack.api + "/products", params={"q": sku, "limit": 100}, timeout=10).json()
    found = [entry for product in page["results"] for entry in product["skus"] if entry["sku"] == sku]
    assert found, f"{sku} is not found by its code"
    return found[0]["available"]
