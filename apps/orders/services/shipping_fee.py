"""What shipping costs: a flat fee and from when on it is free, which the staff set while the shop runs."""

from decimal import Decimal
from typing import Final

from apps.orders.domain import currency_decimals
from apps.orders.pricing import ShippingRule
from infra.dynamic.definitions import DynamicInteger

FLAT_FEE: Final = DynamicInteger(
    "shipping.flat_fee",
    default=0,
    minimum=0,
    maximum=1_000_000_000,
    meaning="What shipping an order costs, in the smallest unit of the shop's currency (0: nothing).",
)
FREE_FROM: Final = DynamicInteger(
    "shipping.free_from",
    default=0,
    minimum=0,
    maximum=1_000_000_000_000,
    meaning="Goods of so much and more are shipped free, in the smallest unit of the shop's currency (0: none are).",
)


def shipping_rule(currency: str) -> ShippingRule:
    """Return what holds now. Prices, and so orders, are all in the shop's currency."""
    free_from = FREE_FROM.value
    return ShippingRule(
        fee=_amount(FLAT_FEE.value, currency), free_from=_amount(free_from, currency) if free_from else None
    )


def shipping_is_free() -> bool:
    """Tell whether no order pays for shipping now."""
    return FLAT_FEE.value == 0


def _amount(units: int, currency: str) -> Decimal:
    return Decimal(units).scaleb(-currency_decimals(currency))
