"""POST /orders/quote, and coupons on orders, as a client sees them."""

from secrets import token_hex

import pytest

from apps.orders.api.quoting import QuoteSerializer
from apps.promotions.selectors import forget_cached_templates
from apps.users.services import make_bench_shoppers
from tests.factories.coupons import coupon_row, give_coupon
from tests.factories.orders import make_sku
from tests.factories.points import balance, grant
from tests.integration.orders.test_api import Shop, problem

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def shop() -> Shop:
    forget_cached_templates()
    [shopper] = make_bench_shoppers(1)
    return Shop(shopper)


def test_a_quote_shows_what_the_order_will_cost_and_holds_nothing(shop):
    sku = make_sku(5, price="10.00")
    coupon, other = give_coupon(shop.user_id, amount="2.50"), give_coupon(shop.user_id, threshold="99")
    body = shop.body((sku, 2), coupons=[str(coupon), str(other)], points=0, note="Ring twice")

    quoted = shop.post("/orders/quote", body)

    assert quoted.status_code == 200
    answer = quoted.json()
    assert set(answer) == set(QuoteSerializer().fields)
    assert (answer["subtotal"], answer["discount"], answer["total"]) == ("20.00", "2.50", "17.50")
    assert (answer["shipping_fee"], answer["points_used"], answer["points_value"]) == ("0.00", 0, "0.00")
    assert [(item["sku"], item["line_total"], item["discount"]) for item in answer["items"]] == [(sku, "20.00", "2.50")]
    assert answer["coupons"] == [
        {"coupon_id": str(coupon), "applicable": True, "discount": "2.50", "reason": None, "detail": None},
        {
            "coupon_id": str(other),
            "applicable": False,
            "discount": "0.00",
            "reason": "threshold",
            "detail": "The goods that this coupon is for come to less than 99.00 GBP.",
        },
    ]
    assert answer["suggested"] == {
        "coupons": [str(coupon)],
        "discount": "2.50",
        "shipping_fee": "0.00",
        "total": "17.50",
    }
    assert coupon_row(shop.user_id, coupon).order_id is None

    order = shop.order((sku, 2), coupons=answer["suggested"]["coupons"], expected_total=answer["suggested"]["total"])

    assert order.status_code == 201
    assert (order.json()["total"], order.json()["coupons"]) == ("17.50", [str(coupon)])
    assert order.json()["items"][0]["discount"] == "2.50"
    own = shop.get("/users/me/coupons").json()["results"]
    states = {entry["coupon_id"]: (entry["state"], entry["order_id"]) for entry in own}
    assert states == {str(coupon): ("redeemed", order.json()["id"]), str(other): ("held", None)}


def test_a_quote_needs_no_address_and_repeats_its_answer_for_a_key(shop):
    sku = make_sku(5, price="10.00")
    body = {"items": [{"sku": sku, "quantity": 1}]}
    key = token_hex(8)

    first, again = (shop.post("/orders/quote", body, key=key) for _ in range(2))

    assert first.json()["suggested"]["coupons"] == []
    assert again.json() == first.json()
    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"address_id": "1"}, (400, "validation_error", [("/address_id", "unknown_address")])),
        ({"items": [{"sku": "no-such", "quantity": 1}]}, (400, "validation_error", [("/items/0/sku", "unknown_sku")])),
        ({"items": []}, (400, "validation_error", [("/items", "min_length")])),
        ({"points": 1}, (409, "insufficient_points", [("/points", "insufficient_points")])),
        ({"coupons": ["1"] * 11}, (400, "validation_error", [("/coupons", "max_length")])),
        ({"colour": "red"}, (400, "validation_error", [("/colour", "unknown_field")])),
    ],
)
def test_a_quote_refuses_what_placing_refuses(shop, changes, expected):
    body = shop.body((make_sku(1), 1)) | changes

    assert problem(shop.post("/orders/quote", body)) == expected


def test_placing_names_each_coupon_that_does_not_apply(shop):
    sku = make_sku(5, price="10.00")
    coupon = give_coupon(shop.user_id)

    refused = shop.order((sku, 1), coupons=[str(coupon), "7", "x"])

    assert problem(refused) == (
        409,
        "coupon_not_applicable",
        [("/coupons/1", "not_applicable"), ("/coupons/2", "not_applicable")],
    )
    assert {error["reason"] for error in refused.json()["errors"]} == {"unknown"}


def test_points_pay_a_share_of_what_coupons_leave(shop):
    one, other = make_sku(5, price="20.00"), make_sku(5, price="10.00")
    coupon = str(give_coupon(shop.user_id, amount="9.00"))
    grant(shop.user_id, 5000)
    body = shop.body((one, 1), (other, 1), coupons=[coupon], points=5000)

    quoted = shop.post("/orders/quote", body).json()

    # 30.00 less 9.00, of which points pay half at most.
    assert (quoted["discount"], quoted["points_used"], quoted["points_value"]) == ("9.00", 1050, "10.50")
    assert [(item["discount"], item["points_value"]) for item in quoted["items"]] == [
        ("6.00", "7.00"),
        ("3.00", "3.50"),
    ]
    assert quoted["total"] == "10.50"
    assert balance(shop.user_id) == 5000

    placed = shop.order((one, 1), (other, 1), coupons=[coupon], points=5000, expected_total="10.50")

    assert placed.status_code == 201
    told = placed.json()
    assert {name: told[name] for name in ("discount", "points_used", "points_value", "total")} == {
        name: quoted[name] for name in ("discount", "points_used", "points_value", "total")
    }
    assert told["items"] == quoted["items"]
    assert balance(shop.user_id) == 3950
