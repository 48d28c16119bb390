"""Frozen values that cross the border of the catalog."""

from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct


class SkuPrice(Struct, frozen=True):
    """What an order needs to know of a SKU: its title, what one unit costs, tax included, and its category (slug)."""

    sku: str
    product_id: int
    title: str
    unit_price: Decimal
    currency: str
    active: bool
    category: str


@dataclass(frozen=True, slots=True)
class CachedBody:
    """A JSON document ready to be sent, and its entity tag (quoted, as the header has it)."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """What a list of products is narrowed to; empty strings narrow nothing."""

    category: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ProductPage:
    """The JSON of products as the API shows them; the next page begins before the id `next_before`, if there is one."""

    products: list[bytes]
    next_before: int | None
