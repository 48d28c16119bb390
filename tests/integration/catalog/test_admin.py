"""The staff's pages of catalog and stock: edit what is sold, adjust stock with a reason, change nothing behind it."""

import pytest
from django.conf import settings
from django.test import Client

from apps.catalog import selectors
from apps.catalog.models import Product, Sku
from apps.inventory import services as inventory
from apps.inventory.models import Movement, SkuStrategy, Stock, StrategyChange
from tests.factories.catalog import code_of, make_category, make_product
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id
from tests.factories.staff import logged_in, make_operator

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.mark.parametrize(
    "page",
    [
        "catalog/product",
        "catalog/sku",
        "catalog/category",
        "inventory/stock",
        "inventory/movement",
        "inventory/strategychange",
    ],
)
def test_each_list_shows_and_searches(staff: Client, page: str) -> None:
    product = make_product("White Metal Lantern")
    sku = make_stock(7, sku=code_of(product))
    inventory.adjust(sku, to=8, reason="counted", actor="mia", now=NOW)
    for query in ({}, {"q": sku}):
        answer = staff.get(f"/admin/{page}/", query)
        assert answer.status_code == 200
    assert staff.get("/admin/inventory/stock/", {"q": sku}).content.count(sku.encode()) >= 1


def adjustment(skus: list[str], **fields: object) -> dict[str, object]:
    return {"action": "adjust", "_selected_action": skus, **fields}


def test_the_adjust_action_asks_then_sets_what_can_be_bought_and_keeps_who_and_why(staff: Client) -> None:
    first, second = make_stock(5), make_stock(9)
    for shard in (0, 1):
        inventory.reserve([make_claim([(first, 1)], order_id=new_order_id(shard=shard))], now=NOW)

    asked = staff.post("/admin/inventory/stock/", adjustment([first, second]))
    assert asked.status_code == 200
    assert b"Units that can be bought" in asked.content
    assert counters(first) == (5, 2)

    staff.post("/admin/inventory/stock/", adjustment([first, second], confirmed="yes", to="40", reason="recount"))

    assert (counters(first), counters(second)) == ((42, 2), (40, 0))
    kept = Movement.objects.filter(sku__in=[first, second]).values_list("kind", "actor", "reason")
    assert set(kept) == {("adjustment", "mia", "recount")}


@pytest.mark.parametrize("fields", [{"to": "-1", "reason": "x"}, {"to": "5", "reason": " "}, {"to": "", "reason": "x"}])
def test_an_adjustment_without_units_or_reason_is_asked_for_again(staff: Client, fields: dict[str, str]) -> None:
    sku = make_stock(5)
    answer = staff.post("/admin/inventory/stock/", adjustment([sku], confirmed="yes", **fields))
    assert answer.status_code == 200
    assert counters(sku) == (5, 0)


def test_who_may_only_look_at_stock_cannot_adjust_it() -> None:
    client = logged_in(make_operator("view_stock"))
    sku = make_stock(5)
    assert client.get("/admin/inventory/stock/").status_code == 200
    client.post("/admin/inventory/stock/", adjustment([sku], confirmed="yes", to="40", reason="mine"))
    assert counters(sku) == (5, 0)


def choice(skus: list[str], **fields: object) -> dict[str, object]:
    return {"action": "choose_strategy", "_selected_action": skus, **fields}


def test_the_strategy_action_asks_then_switches_and_keeps_who_and_why(staff: Client) -> None:
    first, second = make_stock(5), make_stock(9)

    asked = staff.post("/admin/inventory/stock/", choice([first, second]))
    assert asked.status_code == 200
    assert b"lock the row, then decide" in asked.content
    answer = staff.post(
        "/admin/inventory/stock/",
        choice([first, second], confirmed="yes", strategy="queue", reason="launch day"),
        follow=True,
    )

    assert b"Switched 2 SKUs to queue." in answer.content
    rows = StrategyChange.objects.filter(sku__in=[first, second])
    assert set(rows.values_list("before", "after", "actor", "reason")) == {("merged", "queue", "mia", "launch day")}
    shown = {name: staff.get("/admin/inventory/stock/", {"strategy": name}).content for name in ("queue", "merged")}
    assert (first.encode() in shown["queue"], first.encode() in shown["merged"]) == (True, False)
    history = staff.get("/admin/inventory/strategychange/", {"q": first}).content
    assert b"launch day" in history
    assert b"mia" in history


@pytest.mark.parametrize(
    "fields", [{"strategy": "magic", "reason": "x"}, {"strategy": "lock", "reason": " "}, {"reason": "x"}]
)
def test_a_choice_without_strategy_or_reason_is_asked_for_again(staff: Client, fields: dict[str, str]) -> None:
    sku = make_stock(5)
    answer = staff.post("/admin/inventory/stock/", choice([sku], confirmed="yes", **fields))
    assert answer.status_code == 200
    assert not SkuStrategy.objects.filter(sku=sku).exists()


def test_who_may_adjust_stock_may_not_choose_its_strategy_without_the_right_to() -> None:
    user = make_operator("view_stock", "change_stock")
    sku = make_stock(5)
    send = choice([sku], confirmed="yes", strategy="lock", reason="mine")
    logged_in(user).post("/admin/inventory/stock/", send)
    assert not SkuStrategy.objects.filter(sku=sku).exists()

    allowed = make_operator("view_stock", "change_stock", "change_skustrategy", username="eve")
    logged_in(allowed).post("/admin/inventory/stock/", send)
    assert SkuStrategy.objects.get(sku=sku).strategy == "lock"


@pytest.mark.parametrize("kind", ["stock", "movement"])
def test_counters_and_movements_cannot_be_edited_added_or_deleted(staff: Client, kind: str) -> None:
    sku = make_stock(5)
    inventory.adjust(sku, to=6, reason="counted", actor="mia", now=NOW)
    row = sku if kind == "stock" else Movement.objects.get(sku=sku).pk
    assert staff.get(f"/admin/inventory/{kind}/{row}/change/").status_code == 200
    assert staff.post(f"/admin/inventory/{kind}/{row}/change/", {"on_hand": "99"}).status_code == 403
    assert staff.get(f"/admin/inventory/{kind}/add/").status_code == 403
    assert staff.post(f"/admin/inventory/{kind}/{row}/delete/", {"post": "yes"}).status_code == 403
    assert Stock.objects.get(sku=sku).on_hand == 6


def test_a_renamed_product_is_found_by_its_new_title_and_nothing_is_deleted(staff: Client) -> None:
    product = make_product("White Metal Lantern", category=make_category())
    sku = product.skus.get()
    form = {
        "title": "Copper Kettle",
        "category": product.category_id,
        "description": "",
        "is_active": "on",
        "skus-TOTAL_FORMS": "1",
        "skus-INITIAL_FORMS": "1",
        "skus-0-id": sku.id,
        "skus-0-product": product.id,
        "skus-0-code": sku.code,
        "skus-0-name": "",
        "skus-0-is_active": "on",
    }

    assert staff.post(f"/admin/catalog/product/{product.id}/change/", form).status_code == 302

    product.refresh_from_db()
    assert (product.title, product.search_text) == ("Copper Kettle", f"Copper Kettle {sku.code}")
    assert staff.post(f"/admin/catalog/product/{product.id}/delete/", {"post": "yes"}).status_code == 403
    assert Product.objects.filter(id=product.id).exists()


def test_a_new_price_is_what_orders_are_made_with(staff: Client) -> None:
    product = make_product()
    sku = Sku.objects.get(product=product)
    price = sku.prices.get()
    form = {
        "name": "",
        "is_active": "on",
        "prices-TOTAL_FORMS": "1",
        "prices-INITIAL_FORMS": "1",
        "prices-0-id": price.id,
        "prices-0-sku": sku.id,
        "prices-0-currency": "GBP",
        "prices-0-amount": "7.25",
    }

    assert staff.post(f"/admin/catalog/sku/{sku.id}/change/", form).status_code == 302
    assert str(selectors.prices([sku.code])[sku.code].unit_price) == "7.25"

    staff.post(f"/admin/catalog/sku/{sku.id}/change/", form | {"prices-0-amount": "0.00"})
    selectors.forget_cached()
    assert str(selectors.prices([sku.code])[sku.code].unit_price) == "7.25"
