"""Goods on their way, over HTTP against the running stack: a courier that dies, a receipt, and what is sent back."""

import signal
from typing import Any
from urllib.parse import urljoin

import requests

from tests.e2e.stack import Shopper, Stack, wait_for


def _shipments(shopper: Shopper, order_id: str) -> list[dict[str, Any]]:
    return shopper.call("GET", f"/orders/{order_id}/shipments").json()["results"]


def _wait_for_shipment(shopper: Shopper, order_id: str, n: int, what: str, within_s: float) -> dict[str, Any]:
    def asked() -> dict[str, Any] | None:
        shipments = _shipments(shopper, order_id)
        return (
            shipments[n] if len(shipments) > n and (shipments[n]["status"] == what or shipments[n].get(what)) else None
        )

    return wait_for(f"shipment {n + 1} of {order_id}: {what}", asked, within_s=within_s)


def _ship(stack: Stack, order_id: str, *arguments: str) -> None:
    done = stack.manage("ship_order", order_id, *arguments)
    assert done.returncode == 0, done.stderr


def test_an_order_reaches_its_buyer_in_two_parcels_though_the_courier_dies_on_the_way(healthy: Stack) -> None:
    # given a paid order of three units
    [shopper], [sku] = healthy.shoppers(1), healthy.skus(1)
    healthy.set_stock(sku, count=5)
    order_id = shopper.place((sku, 3)).json()["id"]
    courier = shopper.pay(order_id).json()["redirect_url"]
    shopper.wait_for_status(order_id, "paid", within_s=15)

    # when a part of it is booked with a courier that dies, then it cannot be cancelled, and is booked all the same
    _ship(healthy, order_id, "--item", f"{sku}=2", "--carrier", "sandbox")
    healthy.signal("sandbox", signal.SIGKILL)
    refused = shopper.call("POST", f"/orders/{order_id}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert shopper.call("POST", f"/orders/{order_id}/confirm-receipt").status_code == 409
    booked = _wait_for_shipment(shopper, order_id, 0, "number", within_s=40)
    _wait_for_shipment(shopper, order_id, 0, "handed_over", within_s=30)
    assert shopper.order(order_id)["status"] == "fulfilling"

    # when the rest follows, and the first parcel arrives, told three times
    _ship(healthy, order_id, "--carrier", "sandbox")
    _wait_for_shipment(shopper, order_id, 1, "handed_over", within_s=30)
    scanned = requests.post(
        urljoin(courier, f"/parcels/{booked['number']}"), json={"status": "delivered", "times": 3}, timeout=10
    )
    assert scanned.ok, scanned.text
    arrived = _wait_for_shipment(shopper, order_id, 0, "delivered", within_s=15)
    assert [step["status"] for step in arrived["track"]] == ["handed_over", "delivered"]
    assert shopper.order(order_id)["status"] == "shipped"

    # then the buyer's word completes it, and a unit can be sent back
    confirmed = [shopper.call("POST", f"/orders/{order_id}/confirm-receipt") for _ in range(2)]
    assert [(answer.status_code, answer.json()["status"]) for answer in confirmed] == [(200, "completed")] * 2
    back = shopper.call("POST", f"/orders/{order_id}/returns", json={"items": [{"sku": sku, "quantity": 1}]})
    assert (back.status_code, back.json()["status"]) == (201, "requested")
    healthy.audit()
