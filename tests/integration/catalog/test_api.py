"""The catalog's endpoints: documents, pages, tags, caching, errors."""

import pytest
from django.db import OperationalError
from django.test import Client

from apps.catalog import cache, selectors
from apps.catalog.models import Price, Product, Sku
from apps.inventory import services as inventory
from tests.factories.catalog import code_of, make_category, make_product
from tests.factories.inventory import NOW, make_claim, make_stock, new_order_id

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def test_a_product_shows_its_skus_with_price_and_what_can_be_bought(client: Client) -> None:
    product = make_product("Tea Towel", skus={"tw-Red": "2.50", "tw-red": "3.00"})
    make_stock(9, sku="tw-Red")
    for shard in (0, 1):
        inventory.reserve([make_claim([("tw-Red", 2)], order_id=new_order_id(shard=shard))], now=NOW)

    answer = client.get(f"/api/v1/products/{product.id}")

    assert answer.status_code == 200
    assert answer.json() == {
        "id": str(product.id),
        "title": "Tea Towel",
        "description": "",
        "category": product.category.slug,
        "skus": [
            {"sku": "tw-Red", "name": "Tea Towel", "price": "2.50", "currency": "GBP", "available": 5},
            {"sku": "tw-red", "name": "Tea Towel", "price": "3.00", "currency": "GBP", "available": 0},
        ],
    }


def test_what_can_be_bought_is_at_most_five_seconds_old_in_all(client: Client, settings: object) -> None:
    """The worker's cache, nginx's (a second, counted in whole ones) or another proxy's, and the client's own."""
    proxy_s = max(2, settings.CATALOG_MAX_AGE_S)  # type: ignore[attr-defined]
    age_s = settings.CATALOG_AVAILABLE_TTL_S + proxy_s + settings.CATALOG_MAX_AGE_S  # type: ignore[attr-defined]
    assert age_s <= 4.5, "what travelling and loading take comes on top"
    answer = client.get(f"/api/v1/products/{make_product().id}")
    assert answer["Cache-Control"] == "public, max-age=1"


def test_a_known_tag_is_answered_304_until_the_document_changes(client: Client, settings: object) -> None:
    settings.CATALOG_AVAILABLE_TTL_S = 0.0  # type: ignore[attr-defined]
    product = make_product()
    sku = make_stock(3, sku=code_of(product))
    first = client.get(f"/api/v1/products/{product.id}")

    for known in (first["ETag"], f"W/{first['ETag']}", f'"other", {first["ETag"]}', "*"):
        again = client.get(f"/api/v1/products/{product.id}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert again["Cache-Control"] == first["Cache-Control"]

    inventory.reserve([make_claim([(sku, 1)])], now=NOW)
    changed = client.get(f"/api/v1/products/{product.id}", headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed.json()["skus"][0]["available"] == 2


@pytest.mark.parametrize("known", ['"', "W/", ",,,", 'x"y', "é"])
def test_a_malformed_tag_is_no_match(client: Client, known: str) -> None:
    answer = client.get(f"/api/v1/products/{make_product().id}", headers={"If-None-Match": known})
    assert answer.status_code == 200


def test_head_says_what_get_says_without_the_body(client: Client) -> None:
    path = f"/api/v1/products/{make_product().id}"
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("ETag", "Cache-Control", "Content-Length", "Content-Type"):
        assert head[name] == got[name]
    assert int(head["Content-Length"]) == len(got.content)


@pytest.mark.parametrize("product_id", ["0", "-1", "x", "1.5", "9223372036854775807", "99999999999999999999", "%00"])
def test_what_is_no_product_is_not_found(client: Client, product_id: str) -> None:
    answer = client.get(f"/api/v1/products/{product_id}")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("taken_away", ["product", "sku", "price", "currency"])
def test_what_cannot_be_sold_is_not_shown(client: Client, taken_away: str) -> None:
    product = make_product(currency="EUR" if taken_away == "currency" else "GBP")
    if taken_away == "product":
        Product.objects.filter(id=product.id).update(is_active=False)
    elif taken_away == "sku":
        Sku.objects.filter(product=product).update(is_active=False)
    elif taken_away == "price":
        Price.objects.filter(sku__product=product).delete()
    assert client.get(f"/api/v1/products/{product.id}").status_code == 404
    listed = client.get("/api/v1/products", {"category": product.category.slug}).json()
    assert listed == {"results": [], "next": None}


def test_a_list_is_newest_first_and_its_pages_hold_each_product_once(client: Client) -> None:
    category = make_category()
    made = [make_product(f"Mug {number}", category=category).id for number in range(5)]
    make_product("Elsewhere")

    seen: list[int] = []
    cursor, pages = None, 0
    while cursor or not pages:
        query = {"category": category.slug, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/products", query).json()
        seen += [int(product["id"]) for product in page["results"]]
        cursor, pages = page["next"], pages + 1

    assert seen == sorted(made, reverse=True)
    assert pages == 3


def test_a_list_has_the_products_whole_and_a_tag_that_its_cursor_does_not_change(client: Client) -> None:
    category = make_category()
    products = [make_product(category=category) for _ in range(2)]
    query = {"category": category.slug, "limit": 1}

    first = client.get("/api/v1/products", query)

    assert first.json()["results"] == [client.get(f"/api/v1/products/{products[1].id}").json()]
    assert first["ETag"].startswith('W/"')
    known = client.get("/api/v1/products", query, headers={"If-None-Match": first["ETag"]})
    assert known.status_code == 304


def test_a_cursor_belongs_to_its_filters(client: Client) -> None:
    category = make_category()
    for _ in range(2):
        make_product(category=category)
    cursor = client.get("/api/v1/products", {"category": category.slug, "limit": 1}).json()["next"]

    answer = client.get("/api/v1/products", {"limit": 1, "cursor": cursor})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "query:cursor"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "query:limit"),
        ({"limit": "101"}, "query:limit"),
        ({"limit": "x"}, "query:limit"),
        ({"q": ""}, "query:q"),
        ({"q": "x" * 101}, "query:q"),
        ({"q": "a\x00b"}, "query:q"),
        ({"category": "c" * 41}, "query:category"),
        ({"cursor": "forged"}, "query:cursor"),
        ({"cursor": ""}, "query:cursor"),
    ],
)
def test_bad_queries_are_told_by_field(client: Client, query: dict[str, str], field: str) -> None:
    answer = client.get("/api/v1/products", query)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert answer.json()["errors"][0]["field"] == field


def test_unknown_query_parameters_and_categories_narrow_without_an_error(client: Client) -> None:
    assert client.get("/api/v1/products", {"colour": "red", "limit": 1}).status_code == 200
    for category in ("never-was", "ключ", "christmas "):
        assert client.get("/api/v1/products", {"category": category}).status_code == 200


def test_categories_are_listed_with_their_slugs(client: Client) -> None:
    category = make_category()
    answer = client.get("/api/v1/categories")
    assert {"slug": category.slug, "name": category.name} in answer.json()["results"]
    assert client.get("/api/v1/categories", headers={"If-None-Match": answer["ETag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/api/v1/categories", "/api/v1/products", "/api/v1/products/1"])
def test_other_methods_are_refused(client: Client, path: str) -> None:
    answer = client.delete(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]
    assert client.options(path).status_code == 204


def test_while_the_database_is_away_known_products_are_still_shown(
    client: Client, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CATALOG_AVAILABLE_TTL_S = settings.CATALOG_CONTENT_TTL_S = 0.0  # type: ignore[attr-defined]
    known, unknown = make_product(), make_product()
    before = client.get(f"/api/v1/products/{known.id}")
    listed = client.get("/api/v1/products", {"category": known.category.slug})

    def away(keys: object) -> dict[object, object]:
        raise OperationalError(2003, "away")

    for one in (cache.PRODUCTS, cache.AVAILABLE, selectors._PAGES):
        monkeypatch.setattr(one, "_load_many", away)

    assert client.get(f"/api/v1/products/{known.id}").content == before.content
    assert client.get("/api/v1/products", {"category": known.category.slug}).content != b""
    assert listed.status_code == 200
    refused = client.get(f"/api/v1/products/{unknown.id}")
    assert (refused.status_code, refused.json()["code"]) == (503, "shard_unavailable")
    assert int(refused["Retry-After"]) >= 1
