"""The same requests through the fast lane and through Django get the same answers, but for ids and times."""

import json
from secrets import token_hex

import pytest
from django.test import Client
from django.urls import resolve

from apps.catalog.selectors import forget_cached
from apps.users.services import make_bench_shoppers
from config.lane import make_fast_lane
from infra.http.messages import LaneRequest
from infra.observability.metrics import REQUESTS
from tests.factories.orders import make_sku
from tests.factories.promotions import make_sale

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def lane():
    forget_cached()
    return make_fast_lane()


@pytest.fixture
def shopper():
    [shopper] = make_bench_shoppers(1)
    return shopper


def through_lane(lane, method, path, *, query="", body=b"", headers=None):
    endpoint = lane.match(method, path)
    assert endpoint is not None
    response = endpoint(
        LaneRequest(
            method=method,
            path=path,
            query=query.encode(),
            headers={name.lower().encode(): value.encode() for name, value in (headers or {}).items()},
            body=body,
            peer="127.0.0.1",
        )
    )
    given = {name.decode().lower(): value.decode() for name, value in response.headers}
    if response.status != 304:
        given["content-length"] = str(len(response.body))
    return response.status, given, response.body if method != "HEAD" else b""


def through_django(method, path, *, query="", body=b"", headers=None):
    headers = dict(headers or {})
    media_type = headers.pop("Content-Type", "")
    response = Client(raise_request_exception=False).generic(
        method, path, body, content_type=media_type, headers=headers, QUERY_STRING=query
    )
    return response.status_code, {name.lower(): value for name, value in response.items()}, response.content


def comparable(answer):
    """Leave out what differs from request to request: ids of the request, the order's id, times, cursors."""
    status, headers, body = answer
    document = json.loads(body) if body else None
    if isinstance(document, dict):
        for name in ("id", "trace_id", "placed_at", "expires_at", "updated_at"):
            if name in document and status != 200:
                document[name] = type(document[name]).__name__
        if "next" in document:
            document["next"] = type(document["next"]).__name__
    headers = {name: value for name, value in headers.items() if name not in ("x-request-id", "location")}
    if status == 201:
        assert answer[1]["location"].startswith("/api/v1/orders/")
        # Not alike: a time of a whole second is written without its fraction.
        assert headers.pop("content-length") == str(len(body))
    return status, headers, document


def assert_same(lane, method, path, **request):
    ours = through_lane(lane, method, path, **request)
    assert comparable(ours) == comparable(through_django(method, path, **request))
    return ours


def order_headers(shopper, key=None, **changes):
    return {
        "Authorization": f"Bearer {shopper.access}",
        "Content-Type": "application/json",
        "Idempotency-Key": key or token_hex(8),
        **changes,
    }


def order_body(shopper, *items, **changes):
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items]
    return json.dumps({"items": lines, "address_id": str(shopper.address_id), **changes}).encode()


def test_orders_are_placed_alike(lane, shopper):
    sku, other = make_sku(100, price="2.55"), make_sku(100, price="0.10", title="Späße für 日本")
    for changes in ({}, {"note": 'Ring "twice"'}, {"expected_total": "5.20"}):
        body = order_body(shopper, (sku, 1), (other, 1), (sku, 1), **changes)
        ours = through_lane(lane, "POST", "/api/v1/orders", body=body, headers=order_headers(shopper))
        theirs = through_django("POST", "/api/v1/orders", body=body, headers=order_headers(shopper))
        assert comparable(ours) == comparable(theirs)
        assert ours[0] == 201


def test_a_key_used_on_one_way_is_known_on_the_other(lane, shopper):
    sku = make_sku(10)
    body = order_body(shopper, (sku, 1))
    headers = order_headers(shopper, key="k")

    first = through_lane(lane, "POST", "/api/v1/orders", body=body, headers=headers)
    again = through_django("POST", "/api/v1/orders", body=b" " + body, headers=headers)
    other = through_django("POST", "/api/v1/orders", body=order_body(shopper, (sku, 2)), headers=headers)

    assert (again[0], again[1]["idempotency-replayed"]) == (201, "true")
    assert json.loads(again[2]) == json.loads(first[2])
    assert again[1]["location"] == first[1]["location"]
    assert json.loads(other[2])["code"] == "idempotency_key_reused"


def refused_orders(shopper, sku):
    good = order_body(shopper, (sku, 1))
    token = order_headers(shopper)
    yield "no token", good, {name: value for name, value in token.items() if name != "Authorization"}
    yield "bad token", good, {**token, "Authorization": "Bearer x.y.z"}
    yield "other scheme", good, {**token, "Authorization": "Basic eDp5"}
    yield "no key", good, {name: value for name, value in token.items() if name != "Idempotency-Key"}
    yield "bad key", good, {**token, "Idempotency-Key": "a b"}
    yield "long key", good, {**token, "Idempotency-Key": "k" * 256}
    yield "media type", good, {**token, "Content-Type": "text/plain"}
    yield "no media type", good, {name: value for name, value in token.items() if name != "Content-Type"}
    yield "not JSON", b"{", token
    yield "not UTF-8", b"\xff", token
    yield "nothing", b"", token
    yield "a list", b"[]", token
    yield "too large", b'{"note":"' + b"x" * 70_000 + b'"}', token
    yield "doubled member", good[:-1] + b',"address_id":"1"}', token
    yield "unknown member", good[:-1] + b',"x":1}', token
    yield "other errors", b'{"items":[{"sku":"a b","quantity":0},{"quantity":"1"}],"address_id":7}', token
    yield "short", order_body(shopper, (sku, 999)), token
    yield "unknown SKU", order_body(shopper, ("no-such", 1)), token
    yield "unknown address", good.replace(str(shopper.address_id).encode(), b"1"), token
    yield "price", order_body(shopper, (sku, 1), expected_total="0.01"), token
    yield "coupon", order_body(shopper, (sku, 1), coupons=["1"]), token


def test_orders_are_refused_alike(lane, shopper):
    sku = make_sku(5)
    statuses = set()
    for name, body, headers in refused_orders(shopper, sku):
        ours = assert_same(lane, "POST", "/api/v1/orders", body=body, headers=headers)
        assert ours[0] >= 400, name
        assert len(ours[1]["x-request-id"]) >= 8
        statuses.add(ours[0])
    assert statuses == {400, 401, 409, 413, 415}


def test_reads_are_answered_alike(lane):
    make_sku(5)
    path = "/api/v1/products"
    status, headers, body = assert_same(lane, "GET", path)
    assert status == 200
    product_path = f"{path}/{json.loads(body)['results'][0]['id']}"
    for at in (path, product_path):
        tag = assert_same(lane, "GET", at)[1]["etag"]
        assert assert_same(lane, "HEAD", at)[2] == b""
        assert assert_same(lane, "GET", at, headers={"If-None-Match": tag})[0] == 304
        assert assert_same(lane, "GET", at, headers={"If-None-Match": '"x", W/"y"'})[0] == 200
    for query in ("limit=1", "q=a", "category=none", "limit=0", "cursor=x", "q=", "limit=%31", "other=1"):
        assert_same(lane, "GET", path, query=query)
    for name in ("0", "x", "999999999999999999", "9223372036854775808"):
        assert assert_same(lane, "GET", f"{path}/{name}")[0] == 404
    del headers


def test_flash_sales_are_shown_and_sold_alike(lane, shopper):
    sale = make_sale(quota=20, per_user_limit=20)
    [sku] = sale.items
    for path in ("/api/v1/flash-sales", f"/api/v1/flash-sales/{sale.id}"):
        tag = without_clock(lane, "GET", path)[1]["etag"]
        assert assert_same(lane, "GET", path, headers={"If-None-Match": tag})[0] == 304
    assert assert_same(lane, "GET", "/api/v1/flash-sales/1")[0] == 404

    path = f"/api/v1/flash-sales/{sale.id}/orders"
    wanted = {"sku": sku, "quantity": 1, "address_id": str(shopper.address_id)}
    statuses = []
    for changes in ({}, {"quantity": 0}, {"x": 1}, {"sku": "none"}, {"address_id": "1"}):
        body = json.dumps(wanted | changes).encode()
        ours = through_lane(lane, "POST", path, body=body, headers=order_headers(shopper))
        theirs = through_django("POST", path, body=body, headers=order_headers(shopper))
        assert comparable(ours) == comparable(theirs)
        statuses.append(ours[0])
    assert statuses == [201, 400, 400, 400, 400]
    assert assert_same(lane, "POST", path, body=b"{}", headers={})[0] == 401


def without_clock(lane, method, path):
    """Compare what differs by the server's clock only."""
    ours, theirs = through_lane(lane, method, path), through_django(method, path)
    assert ours[0] == theirs[0] == 200
    assert ours[1]["etag"] == theirs[1]["etag"]
    assert json.loads(ours[2]).keys() == json.loads(theirs[2]).keys()
    return ours


def test_what_has_waited_too_long_behind_a_proxy_is_refused_alike(lane, settings):
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    answer = assert_same(lane, "GET", "/api/v1/products", headers={"X-Request-Start": "t=1"})
    assert answer[0] == 503


def test_request_ids_are_taken_over_or_made(lane):
    for given in ("a-request-id_1", "short", "x" * 65, "späß-latin"):
        request = {"headers": {"X-Request-Id": given}}
        ours = through_lane(lane, "GET", "/api/v1/products", **request)[1]["x-request-id"]
        theirs = through_django("GET", "/api/v1/products", **request)[1]["x-request-id"]
        assert (ours == given) == (theirs == given) == (given == "a-request-id_1")


def test_both_ways_are_counted_under_one_route(lane):
    make_sku(1)
    counter = REQUESTS.labels("GET", resolve("/api/v1/products").route, "200")
    before = counter._value.get()
    through_lane(lane, "GET", "/api/v1/products")
    through_django("GET", "/api/v1/products")
    assert counter._value.get() == before + 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/orders"),
        ("DELETE", "/api/v1/orders"),
        ("OPTIONS", "/api/v1/products"),
        ("POST", "/api/v1/products/1"),
        ("GET", "/api/v1/products/"),
        ("GET", "/api/v1/products/1/x"),
        ("POST", "/api/v1/orders/"),
        ("GET", "/healthz/live"),
        ("GET", "/api/v1/flash-sales/1/orders"),
        ("POST", "/api/v1/flash-sales//orders"),
        ("POST", "/api/v1/flash-sales/1/entry"),
    ],
)
def test_everything_else_is_left_to_django(lane, method, path):
    assert lane.match(method, path) is None


def test_a_lane_that_is_off_leaves_everything_to_django(settings):
    settings.FAST_LANE = False
    assert make_fast_lane().match("POST", "/api/v1/orders") is None


def test_where_cors_is_on_other_origins_are_left_to_django(settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    endpoint = make_fast_lane().match("GET", "/api/v1/products")
    request = LaneRequest("GET", "/api/v1/products", b"", {b"origin": b"https://shop.example"}, b"", "127.0.0.1")
    assert endpoint(request) is None
    request.headers.clear()
    assert endpoint(request).status == 200
