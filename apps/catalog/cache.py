"""What each worker keeps of the catalog: the loaders and the caches in front of them.

Staleness: `CATALOG_L1_TTL_S` for products (so `available` too) and categories, `CATALOG_PRICE_TTL_S` for the prices
that orders are made with, up to an hour while the database is away. Nothing here is asked of another process.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from apps.catalog.models import Category, Price
from apps.catalog.types import CachedBody, ProductPage, SkuPrice
from infra.caching.l1 import L1Cache

_encode: Final = msgspec.json.Encoder().encode


def load_products(product_ids: Collection[int]) -> dict[int, CachedBody]:
    """Read the products on sale among these, with what is left of their SKUs, as the API shows them."""
    rows = (
        _sellable()
        .filter(sku__product_id__in=list(product_ids))
        .order_by("sku__product_id", "sku__code")
        .values_list(
            "sku__product_id",
            "sku__product__title",
            "sku__product__description",
            "sku__product__category__slug",
            "sku__code",
            "sku__name",
            "amount",
            "currency",
        )
    )
    documents: dict[int, dict[str, Any]] = {}
    skus: list[dict[str, Any]] = []
    for product_id, title, description, category, code, name, amount, currency in rows:
        if product_id not in documents:
            documents[product_id] = {
                "id": str(product_id),
                "title": title,
                "description": description,
                "category": category,
                "skus": [],
            }
        sku = {"sku": code, "name": name or title, "price": str(amount), "currency": currency, "available": 0}
        documents[product_id]["skus"].append(sku)
        skus.append(sku)
    available = _availability()([str(sku["sku"]) for sku in skus])
    for sku in skus:
        sku["available"] = max(available.get(str(sku["sku"]), 0), 0)
    return {product_id: as_body(document) for product_id, document in documents.items()}


def load_prices(skus: Collection[str]) -> dict[str, SkuPrice]:
    """Read the prices of the SKUs on sale among these."""
    rows = (
        _sellable()
        .filter(sku__code__in=list(skus))
        .values_list("sku__code", "sku__product_id", "sku__product__title", "sku__name", "amount", "currency")
    )
    return {
        code: SkuPrice(
            sku=code, product_id=product_id, title=name or title, unit_price=amount, currency=currency, active=True
        )
        for code, product_id, title, name, amount, currency in rows
    }


def load_categories(keys: Collection[str]) -> dict[str, CachedBody]:
    """Read all categories; there is one key."""
    rows = Category.objects.using("catalog").values_list("slug", "name")
    document = {"results": [{"slug": slug, "name": name} for slug, name in rows], "next": None}
    return dict.fromkeys(keys, as_body(document))


def page_body(page: ProductPage, *, cursor: str | None) -> CachedBody:
    """Return the list's document, made of its products' documents as they are.

    The tag is a weak one and covers where the next page begins, not the cursor, whose text changes with the time.
    """
    items = b",".join(product.body for product in page.products)
    tag = _digest(b"%b%d" % (items, page.next_before or 0))
    return CachedBody(b'{"results":[' + items + b'],"next":' + _encode(cursor) + b"}", f'W/"{tag}"')


def as_body(document: object) -> CachedBody:
    """Encode a document and tag it by its content."""
    body = _encode(document)
    return CachedBody(body, f'"{_digest(body)}"')


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=12).hexdigest()


def _sellable() -> "QuerySet[Price, Any]":
    """Prices, in the shop's currency, of active SKUs of active products."""
    return Price.objects.using("catalog").filter(
        currency=settings.CURRENCY, sku__is_active=True, sku__product__is_active=True
    )


def _availability() -> Callable[[Collection[str]], Mapping[str, int]]:
    return _imported(settings.CATALOG_AVAILABILITY)


@lru_cache(maxsize=8)
def _imported(path: str) -> Any:
    return import_string(path)


PRODUCTS: Final[L1Cache[int, CachedBody]] = L1Cache(load_products, ttl_s=lambda: settings.CATALOG_L1_TTL_S, size=20_000)
PRICES: Final[L1Cache[str, SkuPrice]] = L1Cache(load_prices, ttl_s=lambda: settings.CATALOG_PRICE_TTL_S, size=50_000)
CATEGORIES: Final[L1Cache[str, CachedBody]] = L1Cache(load_categories, ttl_s=lambda: settings.CATALOG_L1_TTL_S, size=1)
