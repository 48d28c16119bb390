"""The endpoints of flash sales, and the command that runs them, as a client and a script see them."""

import json
from datetime import datetime
from io import StringIO
from secrets import token_hex

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from apps.orders.api.serializers import OrderSerializer
from apps.orders.services import flash_placement
from apps.orders.services.flash_queue import drain_queues
from apps.orders.services.flash_sales import end_sale, pause_sale
from apps.promotions.api.serializers import FlashSaleItemSerializer, FlashSaleSerializer
from apps.promotions.domain import SaleMode
from apps.promotions.models import BuyerBlock
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.services import block_buyer, blocks, lift_block
from apps.promotions.types import CONSOLE
from apps.users.services import make_bench_shoppers
from tests.factories.inventory import counters
from tests.factories.orders import make_sku
from tests.factories.promotions import counters_of, make_sale, sku_of

pytestmark = pytest.mark.usefixtures("committed")


class Shop:
    """A shopper's client."""

    def __init__(self, shopper) -> None:
        self.address_id = str(shopper.address_id)
        self._client = Client(raise_request_exception=False)
        self._token = {"Authorization": f"Bearer {shopper.access}"}

    def post(self, path, body=None, **headers):
        return self._client.post(
            f"/api/v1{path}",
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers=self._token | headers,
        )

    def get(self, path):
        return self._client.get(f"/api/v1{path}", headers=self._token)

    def buy(self, sale, *, key=None, token=None, **changes):
        body = {"sku": sku_of(sale), "quantity": 1, "address_id": self.address_id, **changes}
        headers = {"Idempotency-Key": key or token_hex(8)} | ({"Purchase-Token": token} if token else {})
        return self.post(f"/flash-sales/{sale.id}/orders", body, **headers)

    def entry(self, sale):
        return self.post(f"/flash-sales/{sale.id}/entry")


@pytest.fixture(autouse=True)
def look_again() -> None:
    flash_placement.forget_sold_out()
    forget_cached()


@pytest.fixture
def shop():
    [shopper] = make_bench_shoppers(1)
    return Shop(shopper)


@pytest.fixture
def public():
    return Client(raise_request_exception=False)


def problem(response):
    assert response["Content-Type"] == "application/problem+json"
    answer = response.json()
    return response.status_code, answer["code"], [(error["field"], error["code"]) for error in answer.get("errors", [])]


def test_a_sale_is_shown_to_everyone_with_what_is_left(public, shop):
    sale = make_sale(quota=10, per_user_limit=2, price="1.25")
    assert shop.buy(sale).status_code == 201
    forget_cached()

    shown = public.get(f"/api/v1/flash-sales/{sale.id}")

    document = shown.json()
    assert set(document) == set(FlashSaleSerializer().fields)
    assert set(document["items"][0]) == set(FlashSaleItemSerializer().fields)
    assert (document["id"], document["status"], document["mode"]) == (str(sale.id), "running", "direct")
    item = document["items"][0]
    assert (item["price"], item["currency"], item["quota"], item["left"], item["per_user_limit"]) == (
        "1.25",
        "GBP",
        10,
        9,
        2,
    )
    server_time = datetime.fromisoformat(document["server_time"])
    assert abs((timezone.now() - server_time).total_seconds()) < 5
    assert document["starts_at"].endswith("Z")
    listed = public.get("/api/v1/flash-sales").json()
    assert {**document, "server_time": ""} in [{**entry, "server_time": ""} for entry in listed["results"]]


def test_what_has_not_changed_is_not_sent_again(public):
    sale = make_sale()
    first = public.get(f"/api/v1/flash-sales/{sale.id}")

    again = public.get(f"/api/v1/flash-sales/{sale.id}", headers={"If-None-Match": first["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert int(first["Cache-Control"].partition("max-age=")[2]) <= 5
    assert public.head(f"/api/v1/flash-sales/{sale.id}").status_code == 200


def test_the_list_has_pages(public):
    sales = [make_sale() for _ in range(3)]
    seen, cursor = [], None
    for _ in range(100):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = public.get("/api/v1/flash-sales", query).json()
        seen += [entry["id"] for entry in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert len(seen) == len(set(seen))
    assert {str(sale.id) for sale in sales} <= set(seen)
    assert seen == sorted(seen, key=int, reverse=True)
    assert problem(public.get("/api/v1/flash-sales", {"cursor": "x"}))[0] == 400


@pytest.mark.parametrize("path", ["/flash-sales/1", "/flash-sales/x", "/flash-sales/99999999999999999999"])
def test_a_sale_that_is_not_there_is_not_found(public, path):
    assert problem(public.get(f"/api/v1{path}"))[:2] == (404, "not_found")


def test_an_order_is_bought_and_the_same_key_gets_it_again(shop):
    sale = make_sale(quota=3, per_user_limit=3)

    first = shop.buy(sale, key="k-1")
    again = shop.buy(sale, key="k-1")
    other = shop.buy(sale, key="k-1", quantity=2)

    order = first.json()
    assert (first.status_code, set(order)) == (201, set(OrderSerializer().fields))
    assert first["Location"] == f"/api/v1/orders/{order['id']}"
    assert shop.get(f"/orders/{order['id']}").json() == order
    assert (again.status_code, again["Idempotency-Replayed"], again.json()) == (201, "true", order)
    assert problem(other)[:2] == (409, "idempotency_key_reused")


def test_refusals_have_their_codes(shop):
    sale = make_sale(quota=2, per_user_limit=1)
    assert problem(shop.buy(make_sale(starts_in_s=60)))[:2] == (409, "sale_not_started")
    assert shop.buy(sale).status_code == 201
    assert problem(shop.buy(sale))[:2] == (409, "purchase_limit_reached")
    [other, third] = [Shop(shopper) for shopper in make_bench_shoppers(2)]
    assert other.buy(sale).status_code == 201
    assert problem(third.buy(sale))[:2] == (409, "sold_out")
    pause_sale(sale.id, now=timezone.now())
    assert problem(third.buy(sale))[:2] == (409, "invalid_state")
    end_sale(sale.id, now=timezone.now())
    assert problem(third.buy(sale))[:2] == (409, "sale_ended")


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"sku": "OTHER"}, "/sku", "unknown_sku"),
        ({"sku": "a b"}, "/sku", "invalid"),
        ({"sku": 7}, "/sku", "invalid"),
        ({"quantity": 0}, "/quantity", "min_value"),
        ({"quantity": 1000}, "/quantity", "max_value"),
        ({"quantity": "1"}, "/quantity", "invalid"),
        ({"address_id": "1"}, "/address_id", "unknown_address"),
        ({"address_id": None}, "/address_id", "null"),
        ({"note": "x"}, "/note", "unknown_field"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_its_field(shop, changes, field, code):
    assert problem(shop.buy(make_sale(), **changes)) == (400, "validation_error", [(field, code)])


def test_a_key_and_a_login_are_needed(shop, public):
    sale = make_sale()
    missing = shop.post(f"/flash-sales/{sale.id}/orders", {"sku": sku_of(sale), "quantity": 1, "address_id": "1"})
    assert problem(missing) == (400, "validation_error", [("header:Idempotency-Key", "required")])
    for path in ("orders", "entry"):
        assert problem(public.post(f"/api/v1/flash-sales/{sale.id}/{path}"))[:2] == (401, "not_authenticated")


def test_a_token_opens_the_sale_that_asks_for_one(shop):
    sale = make_sale(token_required=True)
    assert problem(shop.buy(sale))[:2] == (403, "purchase_token_invalid")
    assert problem(shop.buy(sale, token="made-up"))[:2] == (403, "purchase_token_invalid")
    assert problem(shop.entry(make_sale(starts_in_s=60)))[:2] == (409, "sale_not_started")

    entry = shop.entry(sale)

    assert (entry.status_code, set(entry.json())) == (200, {"purchase_token", "expires_at"})
    [other] = [Shop(shopper) for shopper in make_bench_shoppers(1)]
    token = entry.json()["purchase_token"]
    assert problem(other.buy(sale, token=token))[:2] == (403, "purchase_token_invalid")
    assert shop.buy(sale, token=token).status_code == 201


def test_a_sale_that_queues_answers_with_a_ticket_that_can_be_asked(shop, public):
    sale = make_sale(mode=SaleMode.QUEUED)

    first = shop.buy(sale, key="k-1")
    again = shop.buy(sale, key="k-1")

    assert (first.status_code, first.json()["position"]) == (202, 1)
    assert set(first.json()) == {"ticket", "position"}
    assert "Idempotency-Replayed" not in first
    assert (again.status_code, again.json(), again["Idempotency-Replayed"]) == (202, first.json(), "true")
    assert problem(shop.buy(sale, key="k-1", address_id="5"))[:2] == (409, "idempotency_key_reused")
    path = f"/flash-sales/tickets/{first.json()['ticket']}"
    assert shop.get(path).json() == {"status": "waiting", "position": 1}
    drain_queues()
    ended = shop.get(path).json()
    assert set(ended) == {"status", "order_id"}
    assert shop.get(f"/orders/{ended['order_id']}").json()["status"] == "pending_payment"
    assert shop.buy(sale, key="k-1").json()["ticket"] == first.json()["ticket"]
    shop.buy(sale, key="k-2")
    drain_queues()
    refused = shop.buy(sale, key="k-2").json()["ticket"]
    assert shop.get(f"/flash-sales/tickets/{refused}").json() == {
        "status": "refused",
        "code": "purchase_limit_reached",
    }
    [other] = [Shop(shopper) for shopper in make_bench_shoppers(1)]
    assert problem(other.get(path))[:2] == (404, "not_found")
    assert problem(shop.get("/flash-sales/tickets/x"))[:2] == (404, "not_found")
    assert problem(public.get(f"/api/v1{path}"))[:2] == (401, "not_authenticated")


# -- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    out = StringIO()
    call_command("flash_sale", *(str(argument) for argument in arguments), stdout=out)
    return out.getvalue().splitlines()


def create(sku: str, *more: object) -> int:
    figures = {"--sku": sku, "--price": "1.99", "--quota": 6, "--per-user-limit": 2, "--lasts": 60}
    if more and more[0] in figures:
        figures[str(more[0])], more = more[1], ()
    return int(command("create", *(part for pair in figures.items() for part in pair), *more)[-1])


def test_a_script_makes_a_sale_and_brings_it_through_its_life(shop):
    sale = get_sale(create(make_sku(10)))
    assert (sale.state, sale.mode, sale.token_required) == ("running", "direct", False)
    assert counters_of(sale) == (10, 0, 6)
    assert command("warm_up", sale.id) == [f"{sku_of(sale)}: 6 units are allotted"]
    assert counters_of(sale) == (10, 0, 6)
    assert command("pause", sale.id) == ["paused"]
    assert command("resume", sale.id) == ["running"]
    assert shop.buy(sale).status_code == 201
    assert command("end", sale.id) == ["ended"]
    assert counters_of(sale) == (10, 0, 1)
    with pytest.raises(CommandError, match="ended"):
        command("pause", sale.id)


def test_a_script_makes_a_sale_for_later_with_a_token_and_cancels_it():
    sku = make_sku(10)
    sale = get_sale(create(sku, "--starts-in", 30, "--require-token", "--name", "Night sale"))
    assert (sale.name, sale.state, sale.token_required) == ("Night sale", "scheduled", True)
    assert 29 < (sale.starts_at - timezone.now()).total_seconds() <= 30
    assert command("cancel", sale.id) == ["cancelled"]
    assert get_sale(sale.id).state == "cancelled"
    assert counters(sku) == (10, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quota", 11), "only 10 can be allotted"),
        (("--quota", 0), "above zero"),
        (("--price", "0"), "above zero"),
        (("--price", "1.999"), "more decimals"),
        (("--per-user-limit", 5000), "limit for each buyer"),
        (("--lasts", 0), "ends after it starts"),
        (("--mode", "fast"), "invalid choice"),
        (("--sku", "NOT-THERE"), "not on sale"),
    ],
)
def test_a_sale_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(CommandError, match=message):
        create(make_sku(10), *arguments)


def test_a_blocked_network_gets_neither_a_token_nor_an_order(shop):
    sale = make_sale(token_required=True)
    token = shop.entry(sale).json()["purchase_token"]
    block_id = block_buyer(network="127.0.0.0/8", sale_id=sale.id, reason="a bot", by=CONSOLE, now=timezone.now())
    blocks.refresh()
    try:
        assert problem(shop.entry(sale)) == (403, "permission_denied", [])
        assert problem(shop.buy(sale, token=token)) == (403, "permission_denied", [])
        assert shop.buy(make_sale()).status_code == 201
    finally:
        lift_block(block_id, by=CONSOLE, now=timezone.now())
        blocks.refresh()
        BuyerBlock.objects.filter(id=block_id).delete()
    assert shop.buy(sale, token=token).status_code == 201


def test_a_sale_that_is_not_there_cannot_be_run():
    with pytest.raises(CommandError, match="no such sale"):
        command("end", 1)
