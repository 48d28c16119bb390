"""Many buyers at once over HTTP, against both gunicorn workers and both shards."""

import json
import secrets
import socket
from collections import Counter

import pytest

from tests.e2e.stack import PORT_BASE, all_at_once, wait_for


@pytest.mark.parametrize("lines", [1, 2], ids=["one line", "two lines of one SKU"])
def test_two_hundred_buyers_for_fifty_units_get_exactly_fifty_orders(stack, lines):
    # given what fifty of two hundred buyers over both shards can have
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=50 * lines)
    buyers = stack.shoppers(200)
    assert Counter(map(stack.shard_of, buyers)) == {"shard_0": 100, "shard_1": 100}

    # when all of them order at once
    answers = all_at_once([lambda buyer=buyer: buyer.place_until_settled(*[(sku, 1)] * lines) for buyer in buyers])

    # then fifty have an order, and everybody else is told that and how much is short
    told = Counter(answer.status_code if answer.ok else answer.json()["code"] for answer in answers)
    assert told == {201: 50, "insufficient_stock": 150}
    for refusal in (answer.json() for answer in answers if not answer.ok):
        [error] = refusal["errors"]
        assert (error["field"], error["sku"], error["requested"]) == ("/items/0", sku, lines)
        assert error["available"] < lines
    stack.audit()


def test_a_hundred_sends_of_one_order_make_one_order(stack):
    # given one unit and one buyer who sends the same order again and again
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=1)
    [buyer] = stack.shoppers(1)
    key = secrets.token_hex(12)

    def send():
        return buyer.place_until_settled((sku, 1), key=key)

    # when a hundred sends arrive at once
    answers = all_at_once([send] * 100)

    # then all are told of the same order
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    listed = buyer.call("GET", "/orders").json()["results"]
    assert len(listed) == 1


def test_orders_of_two_skus_in_opposite_order_never_deadlock_for_a_client(stack):
    # given what forty of a hundred buyers can have, who list the two SKUs either way round
    one, other = stack.skus(2)
    stack.set_stock(one, other, count=40)
    buyers = stack.shoppers(100)
    baskets = [[(one, 1), (other, 1)], [(other, 1), (one, 1)]]

    # when all order at once
    answers = all_at_once(
        [
            lambda buyer=buyer, basket=baskets[n % 2]: buyer.place_until_settled(*basket)
            for n, buyer in enumerate(buyers)
        ]
    )

    # then all that there was is sold, in whole orders, and the others are told of both
    told = Counter(answer.status_code if answer.ok else answer.json()["code"] for answer in answers)
    assert told == {201: 40, "insufficient_stock": 60}
    refusal = next(answer.json() for answer in answers if not answer.ok)
    assert [(error["field"], error["available"]) for error in refusal["errors"]] == [("/items/0", 0), ("/items/1", 0)]
    stack.audit()


def test_the_lost_answer_for_the_last_unit_is_given_again_to_its_key(stack):
    # given a buyer who sends an order for the last unit and never sees the answer
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=1)
    buyer, other = stack.shoppers(2)
    key = secrets.token_hex(12)
    body = json.dumps({"items": [{"sku": sku, "quantity": 1}], "address_id": buyer.address_id}).encode()
    head = (
        f"POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1:{PORT_BASE}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {buyer.access}\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", PORT_BASE), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        [order] = wait_for("the order", lambda: buyer.call("GET", "/orders").json()["results"], within_s=15)

    # when somebody else asks for it, and the buyer repeats the request
    refused = other.place_until_settled((sku, 1))
    repeated = buyer.place_until_settled((sku, 1), key=key)

    # then the one is told the shortage and the other the order
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_stock")
    assert (repeated.status_code, repeated.json()["id"]) == (201, order["id"])
    assert repeated.headers["Idempotency-Replayed"] == "true"


def test_cancels_in_between_never_oversell_and_sell_everything_in_the_end(stack):
    # given ten units and forty buyers, of whom the first ten cancel what they got
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=10)
    buyers = stack.shoppers(40)

    def buy_and_perhaps_cancel(n, buyer):
        answer = buyer.place_until_settled((sku, 1))
        if answer.ok and n % 2 == 0:
            cancelled = buyer.call("POST", f"/orders/{answer.json()['id']}/cancel", json={})
            assert cancelled.status_code == 200, cancelled.text
            return None
        return answer if answer.ok else None

    kept = [
        answer
        for answer in all_at_once(
            [lambda n=n, buyer=buyer: buy_and_perhaps_cancel(n, buyer) for n, buyer in enumerate(buyers)]
        )
        if answer is not None
    ]
    assert len(kept) <= 10

    # when the others try again until everything that was held has come back
    def one_more():
        if len(kept) < 10:
            answer = buyers[len(kept)].place_until_settled((sku, 1))
            if answer.ok:
                kept.append(answer)
        return len(kept) == 10

    # then exactly the stock is sold
    wait_for("the tenth order", one_more, within_s=30)
    refused = buyers[-1].place_until_settled((sku, 1))
    assert refused.status_code == 409
    stack.audit()
