"""Many buyers at once over HTTP, against both gunicorn workers and both shards."""

import secrets
from collections import Counter

from tests.e2e.stack import all_at_once, wait_for


def test_two_hundred_buyers_for_fifty_units_get_exactly_fifty_orders(stack):
    # given fifty units and two hundred buyers over both shards
    [sku] = stack.skus(1)
    stack.set_stock(sku, count=50)
    buyers = stack.shoppers(200)
    assert {stack.shard_of(buyer) for buyer in buyers[:12]} == {"shard_0", "shard_1"}

    # when all of them order one at once
    answers = all_at_once([lambda buyer=buyer: buyer.place_until_settled((sku, 1)) for buyer in buyers])

    # then fifty have an order, and everybody else is told that and how much is short
    told = Counter(answer.status_code if answer.ok else answer.json()["code"] for answer in answers)
    assert told == {201: 50, "insufficient_stock": 150}
    refusal = next(answer for answer in answers if not answer.ok).json()
    assert refusal["errors"][0]["sku"] == sku
    assert refusal["errors"][0]["field"].startswith("/items/0")
    assert {"requested", "available"} <= set(refusal["errors"][0])
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
    # given two SKUs and buyers who list them either way round, some with the same SKU twice
    one, other = stack.skus(2)
    stack.set_stock(one, count=60)
    stack.set_stock(other, count=60)
    buyers = stack.shoppers(60)
    baskets = [[(one, 1), (other, 1)], [(other, 1), (one, 1)], [(one, 1), (other, 1), (one, 0 + 1)]]

    # when all order at once
    answers = all_at_once(
        [
            lambda buyer=buyer, basket=baskets[n % 3]: buyer.place_until_settled(*basket)
            for n, buyer in enumerate(buyers)
        ]
    )

    # then nobody meets anything but an order or a shortage
    codes = {answer.json()["code"] for answer in answers if not answer.ok}
    assert codes <= {"insufficient_stock"}
    merged = [answer.json() for n, answer in enumerate(answers) if n % 3 == 2 and answer.ok]
    assert all(sorted(line["quantity"] for line in order["items"]) == [1, 2] for order in merged)
    stack.audit()


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
