"""What each worker keeps of the catalog: the loaders and the caches in front of them.

Staleness: `CATALOG_AVAILABLE_TTL_S` for what can be bought, `CATALOG_CONTENT_TTL_S` for the rest of what is shown,
`CATALOG_PRICE_TTL_S` for the prices that orders are made with; up to an hour while the database is away. What can be
bought is kept apart because it changes with every order and is cheap to read again for many SKUs at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string

from apps.catalog.models import Category
from apps.catalog.types import CachedBody, ProductPage, SkuPrice
from infra.caching.l1 import L1Cache
from infra.mysql.literals import word

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProductDocument:
    """A product's JSON in pieces, between which belongs what can be bought of each SKU."""

    head: bytes
    skus: tuple[tuple[str, bytes], ...]

    def filled(self, available: Mapping[str, int]) -> bytes:
        """Return the whole document."""
        skus = b",".join([b"%b%d}" % (piece, max(available.get(code, 0), 0)) for code, piece in self.skus])
        return b"%b%b]}" % (self.head, skus)


def load_products(product_ids: Collection[int]) -> dict[int, ProductDocument]:
    """Read the products on sale among these.

    In SQL: of the time that a load takes here, the ORM would spend most on building the query.
    """
    markers = ", ".join(["%s"] * len(product_ids))
    with connections["catalog"].cursor() as cursor:
        cursor.execute(
            "SELECT p.id, p.title, p.description, c.slug, s.code, s.name, a.amount, a.currency "  # noqa: S608
            "FROM catalog_product p "
            "JOIN catalog_category c ON c.id = p.category_id "
            "JOIN catalog_sku s ON s.product_id = p.id AND s.is_active "
            "JOIN catalog_price a ON a.sku_id = s.id AND a.currency = %s "
            f"WHERE p.id IN ({markers}) AND p.is_active ORDER BY p.id, s.code",
            [settings.CURRENCY, *product_ids],
        )
        rows = cursor.fetchall()
    heads: dict[int, bytes] = {}
    skus: dict[int, list[tuple[str, bytes]]] = {}
    for product_id, title, description, category, code, name, amount, currency in rows:
        if product_id not in heads:
            head = {"id": str(product_id), "title": title, "description": description, "category": category}
            heads[product_id] = _opened(head, b'"skus":[')
        sku = {"sku": code, "name": name or title, "price": str(amount), "currency": currency}
        skus.setdefault(product_id, []).append((code, _opened(sku, b'"available":')))
    return {product_id: ProductDocument(head, tuple(skus[product_id])) for product_id, head in heads.items()}


def load_available(skus: Collection[str]) -> dict[str, int]:
    """Ask, through the setting, what can be bought of the SKUs now."""
    return dict(_imported(settings.CATALOG_AVAILABILITY)(skus))


def load_prices(skus: Collection[str]) -> dict[str, SkuPrice]:
    """Read the prices, in the shop's currency, of those of the SKUs that are on sale.

    In SQL, like `load_products`: orders of many SKUs ask for some of them nearly each time.
    """
    codes = ",".join([word(sku) for sku in skus])
    with connections["catalog"].cursor() as cursor:
        cursor.execute(
            "SELECT s.code, p.id, COALESCE(NULLIF(s.name, ''), p.title), a.amount, a.currency, c.slug "  # noqa: S608
            "FROM catalog_sku s "
            "JOIN catalog_product p ON p.id = s.product_id AND p.is_active "
            "JOIN catalog_category c ON c.id = p.category_id "
            f"JOIN catalog_price a ON a.sku_id = s.id AND a.currency = {word(settings.CURRENCY)} "
            f"WHERE s.code IN ({codes}) AND s.is_active"
        )
        rows = cursor.fetchall()
    return {
        code: SkuPrice(
            sku=code,
            product_id=product_id,
            title=title,
            unit_price=amount,
            currency=currency,
            active=True,
            category=category,
        )
        for code, product_id, title, amount, currency, category in rows
    }


def load_categories(keys: Collection[str]) -> dict[str, CachedBody]:
    """Read all categories; there is one key."""
    rows = Category.objects.using("catalog").values_list("slug", "name")
    document = {"results": [{"slug": slug, "name": name} for slug, name in rows], "next": None}
    return dict.fromkeys(keys, as_body(document))


def product_bodies(product_ids: Sequence[int]) -> list[bytes]:
    """Return the documents of those of the products that are on sale, in the order asked for."""
    found = PRODUCTS.get_many(product_ids)
    documents = [found[product_id] for product_id in product_ids if product_id in found]
    available = AVAILABLE.get_many([code for document in documents for code, _ in document.skus])
    return [document.filled(available) for document in documents]


def as_body(document: object) -> CachedBody:
    """Encode a document and tag it by its content."""
    return tagged(_encode(document))


def tagged(body: bytes) -> CachedBody:
    """Return an encoded document with the strong entity tag of its content."""
    return CachedBody(body, f'"{_digest(body)}"')


def page_body(page: ProductPage, *, cursor: str | None) -> CachedBody:
    """Return the list's document, made of its products' documents as they are.

    The tag is a weak one and covers where the next page begins, not the cursor, whose text changes with the time.
    """
    items = b",".join(page.products)
    tag = _digest(b"%b%d" % (items, page.next_before or 0))
    return CachedBody(b'{"results":[%b],"next":%b}' % (items, _encode(cursor)), f'W/"{tag}"')


def _opened(document: dict[str, Any], member: bytes) -> bytes:
    """Return the document's JSON with its end left open for one more member."""
    return b"%b,%b" % (_encode(document)[:-1], member)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=12).hexdigest()


@lru_cache(maxsize=8)
def _imported(path: str) -> Any:
    return import_string(path)


PRODUCTS: Final[L1Cache[int, ProductDocument]] = L1Cache(
    load_products, ttl_s=lambda: settings.CATALOG_CONTENT_TTL_S, size=20_000, batch_size=500, max_idle_loads=5
)
AVAILABLE: Final[L1Cache[str, int]] = L1Cache(
    load_available,
    ttl_s=lambda: settings.CATALOG_AVAILABLE_TTL_S,
    size=50_000,
    batch_size=1000,
    max_idle_loads=30,
)
PRICES: Final[L1Cache[str, SkuPrice]] = L1Cache(
    load_prices, ttl_s=lambda: settings.CATALOG_PRICE_TTL_S, size=50_000, batch_size=1000, max_idle_loads=3, ahead_s=1.0
)
CATEGORIES: Final[L1Cache[str, CachedBody]] = L1Cache(
    load_categories, ttl_s=lambda: settings.CATALOG_CONTENT_TTL_S, size=1
)
