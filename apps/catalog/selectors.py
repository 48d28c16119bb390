"""Reads of the catalog. What is asked often comes from the worker's own cache; each says how old it may be."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet

from apps.catalog.cache import AVAILABLE, CATEGORIES, PRICES, PRODUCTS, page_body, product_bodies, tagged
from apps.catalog.domain import sku_of_stock_code
from apps.catalog.models import Product, Sku
from apps.catalog.search import HasWords, Words, words_of
from apps.catalog.types import CachedBody, ProductFilter, ProductPage, SkuPrice
from infra.caching.l1 import L1Cache

__all__ = [
    "all_sku_codes",
    "categories",
    "find_products",
    "forget_cached",
    "page_body",
    "prices",
    "product",
    "sku_of_stock_code",
]

_PageKey = tuple[ProductFilter, int | None, int]
_Page = tuple[list[int], int | None]

# A search for words that the full-text index does not hold looks through this many product ids a request.
SCAN_WINDOW: Final = 20_000


def prices(skus: Collection[str]) -> Mapping[str, SkuPrice]:
    """Return the prices, in the shop's currency, of those SKUs that are known and on sale.

    At most `CATALOG_PRICE_TTL_S` old; older only while the database is away. Raises OperationalError when it is away
    and a SKU was never asked for here.
    """
    return PRICES.get_many(sku for sku in skus if sku.isascii() and not sku.endswith(" "))


def product(product_id: int) -> CachedBody | None:
    """Return a product on sale as the API shows it, or None.

    What can be bought of it is at most `CATALOG_AVAILABLE_TTL_S` old, the rest `CATALOG_CONTENT_TTL_S`; older only
    while the database is away. Raises OperationalError when it is away and nothing is known here.
    """
    bodies = product_bodies([product_id])
    return tagged(bodies[0]) if bodies else None


def categories() -> CachedBody:
    """Return all categories as the API lists them, at most `CATALOG_CONTENT_TTL_S` old."""
    body = CATEGORIES.get("all")
    assert body is not None  # noqa: S101 - the loader always makes one
    return body


def find_products(narrow: ProductFilter, *, before: int | None, limit: int) -> ProductPage:
    """Return a page of products on sale, newest first; as old as `product`.

    A page may be short, or empty, while there is a next one: a search that no index answers goes through a bounded
    range of ids a page.
    """
    ids, following = _PAGES.get((narrow, before, limit)) or ((), None)
    return ProductPage(product_bodies(ids), following)


def all_sku_codes() -> list[str]:
    """Return the codes of all SKUs, on sale or not."""
    return list(Sku.objects.using("catalog").order_by("code").values_list("code", flat=True))


def _find_page(narrow: ProductFilter, before: int | None, limit: int) -> _Page:
    if not narrow.category.isascii():
        return [], None
    rows = Product.objects.using("catalog").filter(is_active=True)
    if narrow.category:
        rows = rows.filter(category__slug=narrow.category.rstrip(" "))
    if before is not None:
        rows = rows.filter(id__lt=before)
    if not narrow.text:
        return _page(rows, limit)
    words = words_of(narrow.text)
    if not words:
        return [], None
    return _search(rows, words, before=before, limit=limit)


def _search(rows: "QuerySet[Product, Any]", words: Words, *, before: int | None, limit: int) -> _Page:
    floor = 0
    if words.indexed:
        rows = rows.filter(HasWords("search_text", words.indexed))
    else:
        newest = (
            before or (Product.objects.using("catalog").order_by("-id").values_list("id", flat=True).first() or 0) + 1
        )
        floor = max(newest - SCAN_WINDOW, 0)
        rows = rows.filter(id__gte=floor)
    for word in words.others:
        rows = rows.filter(search_text__icontains=word)
    ids, following = _page(rows, limit)
    if following is None and floor > 1:
        following = floor
    return ids, following


def _page(rows: "QuerySet[Product, Any]", limit: int) -> _Page:
    ids = list(rows.order_by("-id").values_list("id", flat=True)[: limit + 1])
    return ids[:limit], ids[limit - 1] if len(ids) > limit else None


def _load_pages(keys: Collection[_PageKey]) -> dict[_PageKey, _Page]:
    return {key: _find_page(*key) for key in keys}


_PAGES: Final[L1Cache[_PageKey, _Page]] = L1Cache(
    _load_pages, ttl_s=lambda: settings.CATALOG_CONTENT_TTL_S, size=2_000, batch_size=0
)


def forget_cached() -> None:
    """Empty this process's caches of the catalog, after a change that its own readers should see at once."""
    for cache in (PRODUCTS, AVAILABLE, PRICES, CATEGORIES, _PAGES):
        cache.clear()
