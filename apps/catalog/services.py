"""Writes of the catalog: building it from drafts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from django.conf import settings
from django.db import transaction

from apps.catalog.domain import CATEGORIES
from apps.catalog.models import Category, Price, Product, Sku
from apps.catalog.search import search_text_of
from apps.catalog.source import ProductDraft, SkuDraft

_BATCH_SIZE: Final = 500


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows a load made."""

    categories: int
    products: int
    skus: int
    prices: int


def load_drafts(drafts: Sequence[ProductDraft], *, now: datetime) -> Loaded:
    """Make the categories, products, SKUs and prices among the drafts that are not there yet.

    Idempotent: what is there is left as it is, since the staff may have changed it. One transaction: all or nothing.
    """
    with transaction.atomic(using="catalog"):
        categories = _make_categories()
        products = _make_products(drafts, now=now)
        skus = _make_skus(drafts)
        prices = _make_prices(drafts, skus, now=now)
    return Loaded(categories=categories, products=products, skus=len(skus), prices=prices)


def refresh_search_text(product: Product) -> None:
    """Write what the text search reads of a product, after its title or SKUs changed."""
    text = search_text_of(product.title, product.skus.values_list("code", flat=True))
    Product.objects.using("catalog").filter(pk=product.pk).update(search_text=text)


def _make_categories() -> int:
    present = set(Category.objects.using("catalog").values_list("slug", flat=True))
    missing = [
        Category(slug=slug, name=name, position=position)
        for position, (slug, (name, _)) in enumerate(CATEGORIES.items())
        if slug not in present
    ]
    Category.objects.using("catalog").bulk_create(missing)
    return len(missing)


def _make_products(drafts: Iterable[ProductDraft], *, now: datetime) -> int:
    rows = Product.objects.using("catalog")
    present = set(rows.filter(source_code__isnull=False).values_list("source_code", flat=True))
    category_ids = dict(Category.objects.using("catalog").values_list("slug", "id"))
    missing = [
        Product(
            source_code=draft.source_code,
            category_id=category_ids[draft.category],
            title=draft.title,
            search_text=search_text_of(draft.title, [sku.code for sku in draft.skus]),
            is_active=draft.is_active,
            updated_at=now,
        )
        for draft in drafts
        if draft.source_code not in present
    ]
    rows.bulk_create(missing, batch_size=_BATCH_SIZE)
    return len(missing)


def _make_skus(drafts: Iterable[ProductDraft]) -> set[str]:
    """Make the missing SKUs and return their codes."""
    rows = Sku.objects.using("catalog")
    present = set(rows.values_list("code", flat=True))
    product_ids = dict(Product.objects.using("catalog").values_list("source_code", "id"))
    missing = [
        Sku(
            product_id=product_ids[draft.source_code],
            code=sku.code,
            name=sku.name if len(draft.skus) > 1 else "",
            is_active=sku.price is not None,
        )
        for draft in drafts
        for sku in draft.skus
        if sku.code not in present
    ]
    rows.bulk_create(missing, batch_size=_BATCH_SIZE)
    return {sku.code for sku in missing}


def _make_prices(drafts: Iterable[ProductDraft], new_codes: set[str], *, now: datetime) -> int:
    """Make the prices of new SKUs only: a price that the staff took away from an old one stays away."""
    priced: list[SkuDraft] = [sku for draft in drafts for sku in draft.skus if sku.code in new_codes]
    sku_ids = dict(Sku.objects.using("catalog").values_list("code", "id"))
    prices = (
        Price(sku_id=sku_ids[sku.code], currency=settings.CURRENCY, amount=sku.price, updated_at=now)
        for sku in priced
        if sku.price is not None
    )
    made = 0
    while batch := list(islice(prices, _BATCH_SIZE)):
        made += len(Price.objects.using("catalog").bulk_create(batch))
    return made
