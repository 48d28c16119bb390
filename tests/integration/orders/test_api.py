"""The endpoints of orders, as a client sees them."""

import json
from datetime import timedelta
from secrets import token_hex

import pytest
from django.test import Client
from django.utils import timezone

from apps.orders.api.serializers import OrderSerializer
from apps.orders.models import Order
from apps.users.services import make_bench_shoppers
from infra.idempotency.services import purge_old_keys
from infra.sharding.places import place_of_user
from tests.factories.inventory import counters
from tests.factories.orders import make_sku

pytestmark = pytest.mark.usefixtures("committed")


class Shop:
    """A shopper's client."""

    def __init__(self, shopper):
        self.user_id = shopper.user_id
        self.address_id = str(shopper.address_id)
        self._client = Client(raise_request_exception=False)
        self._token = {"Authorization": f"Bearer {shopper.access}"}

    def get(self, path, **query):
        return self._client.get(f"/api/v1{path}", query, headers=self._token)

    def post(self, path, body=None, *, key=None):
        headers = self._token | ({"Idempotency-Key": key} if key else {})
        data = b"" if body is None else json.dumps(body)
        return self._client.post(f"/api/v1{path}", data, content_type="application/json", headers=headers)

    def body(self, *items, **changes):
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items]
        return {"items": lines, "address_id": self.address_id, **changes}

    def order(self, *items, key=None, **changes):
        return self.post("/orders", self.body(*items, **changes), key=key or token_hex(8))


@pytest.fixture
def shop():
    [shopper] = make_bench_shoppers(1)
    return Shop(shopper)


def problem(response):
    assert response["Content-Type"] == "application/problem+json"
    answer = response.json()
    return response.status_code, answer["code"], [(error["field"], error["code"]) for error in answer.get("errors", [])]


def test_an_order_is_placed_shown_listed_and_told(shop):
    sku = make_sku(10, price="2.55", title="Lantern")

    placed = shop.order((sku, 6), note="Ring twice")

    order = placed.json()
    assert placed.status_code == 201
    assert placed["Location"] == f"/api/v1/orders/{order['id']}"
    assert placed["Cache-Control"] == "no-store"
    assert "Idempotency-Replayed" not in placed
    assert set(order) == set(OrderSerializer().fields)
    assert order["items"] == [
        {
            "line": 1,
            "sku": sku,
            "title": "Lantern",
            "quantity": 6,
            "unit_price": "2.55",
            "line_total": "15.30",
            "discount": "0.00",
            "points_value": "0.00",
            "refunded_quantity": 0,
        }
    ]
    assert (order["total"], order["refunded_total"], order["currency"]) == ("15.30", "0.00", "GBP")
    assert order["placed_at"].endswith("Z")
    assert shop.get(f"/orders/{order['id']}").json() == order
    assert shop.get("/orders").json() == {"results": [order], "next": None}
    events = shop.get(f"/orders/{order['id']}/events").json()["results"]
    assert [(event["version"], event["kind"], event["actor"]) for event in events] == [(1, "placed", "shopper")]


def test_the_same_key_gets_the_same_answer_and_another_body_a_refusal(shop):
    sku = make_sku(5)
    first = shop.order((sku, 1), key="k")

    again = shop.order((sku, 1), key="k")
    other = shop.order((sku, 2), key="k")

    assert (again.status_code, again["Idempotency-Replayed"]) == (201, "true")
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert problem(other)[:2] == (409, "idempotency_key_reused")
    assert counters(sku) == (5, 1)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "/items", "required"),
        ({"items": []}, "/items", "min_length"),
        ({"items": [{"sku": "a", "quantity": 1}] * 51}, "/items", "max_length"),
        ({"items": [{"sku": "a b", "quantity": 1}]}, "/items/0/sku", "invalid"),
        ({"items": [{"sku": "a\n", "quantity": 1}]}, "/items/0/sku", "invalid"),
        ({"items": [{"sku": "a", "quantity": 0}]}, "/items/0/quantity", "min_value"),
        ({"items": [{"sku": "a", "quantity": 1000}]}, "/items/0/quantity", "max_value"),
        ({"items": [{"sku": "a", "quantity": "1"}]}, "/items/0/quantity", "invalid"),
        ({"items": [{"sku": "a", "quantity": True}]}, "/items/0/quantity", "invalid"),
        ({"items": [{"sku": "a", "quantity": 1, "x/y": 1}]}, "/items/0/x~1y", "unknown_field"),
        ({"items": {"sku": "a"}}, "/items", "not_a_list"),
        ({"address_id": 7}, "/address_id", "invalid"),
        ({"address_id": "007"}, "/address_id", "invalid"),
        ({"note": "\x00"}, "/note", "control"),
        ({"note": "n" * 501}, "/note", "max_length"),
        ({"points": -1}, "/points", "min_value"),
        ({"expected_total": 1.5}, "/expected_total", "invalid"),
        ({"expected_total": "-1"}, "/expected_total", "invalid"),
        ({"coupons": [1]}, "/coupons/0", "invalid"),
        ({"total": "0"}, "/total", "unknown_field"),
    ],
)
def test_bad_input_is_told_by_field(shop, body, field, code):
    status, problem_code, errors = problem(shop.post("/orders", body, key="k"))

    assert (status, problem_code) == (400, "validation_error")
    assert (field, code) in errors


def test_placing_needs_a_key_and_a_token(shop):
    assert problem(shop.post("/orders", {}))[2] == [("header:Idempotency-Key", "required")]
    anonymous = Client().post("/api/v1/orders", b"{}", content_type="application/json")
    assert problem(anonymous)[:2] == (401, "not_authenticated")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"coupons": ["c"]}, (409, "coupon_not_applicable", [("/coupons/0", "not_applicable")])),
        ({"points": 1}, (409, "insufficient_points", [("/points", "insufficient_points")])),
        ({"expected_total": "2.51"}, (409, "price_changed", [("/expected_total", "price_changed")])),
        ({"address_id": "1"}, (400, "validation_error", [("/address_id", "unknown_address")])),
    ],
)
def test_what_cannot_be_ordered_is_refused(shop, changes, expected):
    assert problem(shop.order((make_sku(), 1), **changes)) == expected


def test_empty_coupons_and_no_points_are_taken(shop):
    assert shop.order((make_sku(), 1), coupons=[], points=0, expected_total="2.50", note="").status_code == 201


def test_a_shortage_tells_what_is_left(shop):
    sku = make_sku(1)

    response = shop.order((sku, 1), (sku, 1))

    assert problem(response) == (409, "insufficient_stock", [("/items/0", "insufficient_stock")])
    assert response.json()["errors"][0].items() >= {"sku": sku, "requested": 2, "available": 1}.items()


def test_cancelling_answers_the_order_each_time(shop):
    order = shop.order((make_sku(), 1)).json()
    path = f"/orders/{order['id']}/cancel"

    first = shop.post(path, {"reason": "changed my mind"})
    again = shop.post(path)

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (first.json()["status"], first.json()["cancel_reason"]) == ("cancelled", "changed my mind")


def test_cancelling_with_a_key_is_replayed_and_its_body_is_bound(shop):
    order = shop.order((make_sku(), 1)).json()
    path = f"/orders/{order['id']}/cancel"

    first = shop.post(path, {"reason": "a"}, key="k")
    again = shop.post(path, {"reason": "a"}, key="k")

    assert (again.status_code, again["Idempotency-Replayed"], again.json()) == (200, "true", first.json())
    assert problem(shop.post(path, {"reason": "b"}, key="k"))[1] == "idempotency_key_reused"


def test_a_refusal_leaves_its_key_free(shop):
    order = shop.order((make_sku(), 1)).json()
    Order.objects.for_order(int(order["id"])).filter(id=int(order["id"])).update(status="fulfilling")
    path = f"/orders/{order['id']}/cancel"
    assert problem(shop.post(path, {}, key="k"))[:2] == (409, "invalid_state")

    Order.objects.for_order(int(order["id"])).filter(id=int(order["id"])).update(status="pending_payment")
    assert shop.post(path, {}, key="k").status_code == 200


def test_keys_are_forgotten_after_their_retention(shop):
    sku = make_sku()
    shop.order((sku, 1), key="k")
    alias, now = place_of_user(shop.user_id).alias, timezone.now()

    purge_old_keys(alias, now=now, retention=timedelta(hours=1), pause_s=0)
    assert shop.order((sku, 1), key="k")["Idempotency-Replayed"] == "true"
    assert purge_old_keys(alias, now=now + timedelta(seconds=5), retention=timedelta(0), batch_rows=2, pause_s=0) > 0
    assert "Idempotency-Replayed" not in shop.order((sku, 1), key="k")


@pytest.mark.parametrize("order_id", ["0", "1", "-1", "x", "9" * 30, "9223372036854775808", "%00", "1.0"])
@pytest.mark.parametrize("suffix", ["", "/events", "/payments"])
def test_what_is_no_order_of_ones_own_is_not_found(shop, order_id, suffix):
    assert problem(shop.get(f"/orders/{order_id}{suffix}"))[0] == 404


def test_somebody_elses_order_is_not_found(shop):
    [other] = make_bench_shoppers(1)
    order = shop.order((make_sku(), 1)).json()

    for response in (Shop(other).get(f"/orders/{order['id']}"), Shop(other).post(f"/orders/{order['id']}/cancel")):
        assert problem(response)[:2] == (404, "not_found")


def test_a_list_goes_on_by_a_cursor_that_belongs_to_it(shop):
    sku = make_sku()
    placed = [shop.order((sku, 1)).json()["id"] for _ in range(5)]

    first = shop.get("/orders", limit=2).json()
    second = shop.get("/orders", limit=2, cursor=first["next"]).json()
    third = shop.get("/orders", limit=2, cursor=second["next"]).json()

    assert [order["id"] for page in (first, second, third) for order in page["results"]] == placed[::-1]
    assert third["next"] is None
    for foreign in (
        shop.get("/orders", limit=2, cursor=first["next"], status="paid"),
        shop.get("/orders/search", q="a", cursor=first["next"]),
        shop.get("/orders", cursor=first["next"][:-1]),
        Shop(next(make_bench_shoppers(1))).get("/orders", cursor=first["next"]),
    ):
        assert problem(foreign)[2] == [("query:cursor", "invalid_cursor")]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "query:limit"),
        ({"limit": "101"}, "query:limit"),
        ({"status": "void"}, "query:status"),
        ({"from": "yesterday"}, "query:from"),
        ({"to": "2026-13-01T00:00:00Z"}, "query:to"),
        ({"cursor": "x"}, "query:cursor"),
    ],
)
def test_bad_query_parameters_are_told_and_unknown_ones_ignored(shop, query, field):
    assert [error[0] for error in problem(shop.get("/orders", **query))[2]] == [field]
    assert shop.get("/orders", unknown="1").status_code == 200


def test_a_list_is_narrowed_by_query(shop):
    order = shop.order((make_sku(title="Blue vase"), 1)).json()

    def ids(path, **query):
        return [found["id"] for found in shop.get(path, **query).json()["results"]]

    assert ids("/orders", status="pending_payment") == [order["id"]]
    assert ids("/orders", status="paid") == []
    assert ids("/orders", **{"from": order["placed_at"]}) == [order["id"]]
    assert ids("/orders", to=order["placed_at"]) == []
    assert ids("/orders/search", q="blue") == [order["id"]]
    assert ids("/orders/search", q="red") == []
    assert problem(shop.get("/orders/search"))[2] == [("query:q", "required")]
    assert problem(shop.get("/orders/search", q="x" * 101))[2] == [("query:q", "max_length")]


@pytest.mark.parametrize(("method", "path"), [("put", "/orders"), ("delete", "/orders/1"), ("get", "/orders/1/cancel")])
def test_other_methods_are_told_which_there_are(shop, method, path):
    response = getattr(Client(), method)(f"/api/v1{path}", headers=shop._token)

    assert problem(response)[:2] == (405, "method_not_allowed")
    assert "OPTIONS" in response["Allow"]
