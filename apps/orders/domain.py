"""Pure rules of an order: money, merging of lines, statuses and transitions. No I/O, no Django."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import cache
from typing import Final

from msgspec import Struct


class OrderStatus(StrEnum):
    """Where an order stands, as its buyer sees it."""

    PENDING_PAYMENT = "pending_payment"
    PAID = "paid"
    FULFILLING = "fulfilling"
    SHIPPED = "shipped"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUNDING = "refunding"
    REFUNDED = "refunded"


class PaymentStatus(StrEnum):
    """What has been captured for an order and what of it has been given back."""

    UNPAID = "unpaid"
    AUTHORIZED = "authorized"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


class FulfillmentStatus(StrEnum):
    """How far the goods have come."""

    NONE = "none"
    PARTIAL = "partial"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    RETURNED = "returned"


class Closure(StrEnum):
    """How an order was closed before it was paid."""

    OPEN = ""
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_UNCAPTURED: Final = frozenset({PaymentStatus.UNPAID, PaymentStatus.AUTHORIZED})
_BY_FULFILLMENT: Final[Mapping[FulfillmentStatus, OrderStatus]] = {
    FulfillmentStatus.NONE: OrderStatus.PAID,
    FulfillmentStatus.PARTIAL: OrderStatus.FULFILLING,
    FulfillmentStatus.SHIPPED: OrderStatus.SHIPPED,
    FulfillmentStatus.DELIVERED: OrderStatus.COMPLETED,
    FulfillmentStatus.RETURNED: OrderStatus.COMPLETED,
}

ALLOWED_TRANSITIONS: Final[Mapping[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.PENDING_PAYMENT: frozenset({OrderStatus.PAID, OrderStatus.CANCELLED, OrderStatus.EXPIRED}),
    OrderStatus.PAID: frozenset({OrderStatus.FULFILLING, OrderStatus.SHIPPED, OrderStatus.REFUNDING}),
    # The word that the last parcel has arrived may be the first one about it.
    OrderStatus.FULFILLING: frozenset({OrderStatus.SHIPPED, OrderStatus.COMPLETED, OrderStatus.REFUNDING}),
    OrderStatus.SHIPPED: frozenset({OrderStatus.COMPLETED, OrderStatus.REFUNDING}),
    OrderStatus.COMPLETED: frozenset({OrderStatus.REFUNDING}),
    OrderStatus.REFUNDING: frozenset({OrderStatus.REFUNDED}),
    OrderStatus.CANCELLED: frozenset(),
    OrderStatus.EXPIRED: frozenset(),
    OrderStatus.REFUNDED: frozenset(),
}


class ContradictoryState(ValueError):
    """No order can be in this combination of states."""


class ForbiddenTransition(ValueError):
    """The table of transitions does not lead from the one status to the other."""


def status_of(
    *,
    payment_status: PaymentStatus,
    fulfillment_status: FulfillmentStatus,
    closed_as: Closure,
    refunding: bool,
) -> OrderStatus:
    """Return the status that follows from the facts; raises ContradictoryState.

    | captured | closed_as | refunding | status |
    |---|---|---|---|
    | no | open | no | pending_payment |
    | no | cancelled, expired | no | the same word |
    | all given back | open | either | refunded |
    | yes | open | yes | refunding |
    | yes | open | no | by fulfilment: paid, fulfilling, shipped, completed |

    A late payment of a closed order changes none of these facts: it lives in the payment's rows alone.
    """
    captured = payment_status not in _UNCAPTURED
    if not captured:
        if refunding or fulfillment_status != FulfillmentStatus.NONE:
            raise ContradictoryState(f"{payment_status} with refunding={refunding}, {fulfillment_status}")
        return OrderStatus.PENDING_PAYMENT if closed_as == Closure.OPEN else OrderStatus(closed_as.value)
    if closed_as != Closure.OPEN:
        raise ContradictoryState(f"{payment_status} and closed as {closed_as}")
    if payment_status == PaymentStatus.REFUNDED:
        return OrderStatus.REFUNDED
    return OrderStatus.REFUNDING if refunding else _BY_FULFILLMENT[fulfillment_status]


def check_transition(before: OrderStatus, after: OrderStatus) -> None:
    """Raise ForbiddenTransition unless the status stays or moves as the table allows."""
    if after != before and after not in ALLOWED_TRANSITIONS[before]:
        raise ForbiddenTransition(f"{before} -> {after}")


class StockTarget(StrEnum):
    """What the state of an order asks of the stock that was reserved for it."""

    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"
    RETURN = "return"


def stock_target(status: OrderStatus, fulfillment_status: FulfillmentStatus = FulfillmentStatus.NONE) -> StockTarget:
    """Return what the reservation of an order in this status has to become.

    What was sent does not come back because its money does: then single units return as they are received.
    """
    if status == OrderStatus.PENDING_PAYMENT:
        return StockTarget.HOLD
    if status in (OrderStatus.CANCELLED, OrderStatus.EXPIRED):
        return StockTarget.RELEASE
    given_back = status in (OrderStatus.REFUNDING, OrderStatus.REFUNDED)
    return StockTarget.RETURN if given_back and fulfillment_status == FulfillmentStatus.NONE else StockTarget.SETTLE


# ISO 4217: the currencies whose minor unit is not a hundredth.
_DECIMALS: Final[Mapping[str, int]] = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0,
    "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
    "CLF": 4, "UYW": 4,
}  # fmt: skip


def currency_decimals(currency: str) -> int:
    """Return the number of decimals of a currency (ISO 4217 code)."""
    return _DECIMALS.get(currency, 2)


def round_money(amount: Decimal, currency: str) -> Decimal:
    """Return the amount with exactly the currency's decimals, rounded half up (away from zero)."""
    return amount.quantize(_unit_of(currency), ROUND_HALF_UP)


@cache
def no_money(currency: str) -> Decimal:
    """Return nothing, with the currency's decimals."""
    return round_money(Decimal(0), currency)


@cache
def _unit_of(currency: str) -> Decimal:
    """Return one of the currency's smallest unit."""
    return Decimal(1).scaleb(-currency_decimals(currency))


class MergedLine(Struct, frozen=True):
    """The lines of one SKU as one; `first_index` is where the client wrote it first."""

    sku: str
    quantity: int
    first_index: int


def merge_lines(lines: Iterable[tuple[str, int]]) -> list[MergedLine]:
    """Sum the quantities of each SKU; the order is that of first mention."""
    merged: dict[str, MergedLine] = {}
    for index, (sku, quantity) in enumerate(lines):
        known = merged.get(sku)
        merged[sku] = (
            MergedLine(sku, quantity, index)
            if known is None
            else MergedLine(sku, known.quantity + quantity, known.first_index)
        )
    return list(merged.values())


class Totals(Struct, frozen=True):
    """The sums of an order, in its currency; they add up (`total`)."""

    subtotal: Decimal
    discount: Decimal
    points_value: Decimal
    shipping_fee: Decimal
    total: Decimal


def line_total(*, unit_price: Decimal, quantity: int, currency: str) -> Decimal:
    """Return what one line costs, rounded half up to the currency's decimals."""
    return round_money(unit_price * quantity, currency)


def split_amount(amount: Decimal, weights: Sequence[Decimal], *, currency: str) -> list[Decimal]:
    """Split an amount in proportion to weights, to the currency's smallest unit, by largest remainder (Hare quota).

    The shares sum to the amount exactly; of equal remainders the earlier one gets the unit. Where the amount is at most
    the sum of the weights, no share is above its weight. Raises ValueError for a negative amount or weight, and for
    weights of nothing that should share something.
    """
    if amount < 0 or any(weight < 0 for weight in weights):
        raise ValueError("amount and weights are not negative")
    unit = _unit_of(currency)
    units = int(amount / unit)
    if units * unit != amount:
        raise ValueError(f"{amount} is finer than the units of {currency}")
    scaled = [int(weight / unit) for weight in weights]
    whole = sum(scaled)
    if units and not whole:
        raise ValueError("there is nothing to split over")
    shares = [units * weight // whole if whole else 0 for weight in scaled]
    by_remainder = sorted(range(len(scaled)), key=lambda n: (-(units * scaled[n] % whole) if whole else 0, n))
    for n in by_remainder[: units - sum(shares)]:
        shares[n] += 1
    return [round_money(share * unit, currency) for share in shares]


def refund_amount(*, paid: Decimal, quantity: int, already: int, returning: int, currency: str) -> Decimal:
    """Return what `returning` units of a line are worth, of which `already` units were given back before.

    `paid` is what the line cost its buyer: its total less its shares of discount and points. Whatever the parts in
    which a line comes back, their amounts sum to `paid` when all has. Raises ValueError for more than was bought.
    """
    if not 0 < returning <= quantity - already:
        raise ValueError(f"{returning} of {quantity}, {already} of which came back before")
    before = round_money(paid * already / quantity, currency)
    return round_money(paid * (already + returning) / quantity, currency) - before


def pay_in_part(totals: Totals, points_value: Decimal, *, currency: str) -> Totals:
    """Return the sums when points pay so much of the order."""
    return totals_of(
        [totals.subtotal],
        currency=currency,
        discount=totals.discount,
        points_value=points_value,
        shipping_fee=totals.shipping_fee,
    )


def totals_of(
    line_totals: Sequence[Decimal],
    *,
    currency: str,
    discount: Decimal = Decimal(0),
    points_value: Decimal = Decimal(0),
    shipping_fee: Decimal = Decimal(0),
) -> Totals:
    """Return the sums; raises ValueError when the total would be below zero."""
    subtotal = round_money(sum(line_totals, Decimal(0)), currency)
    if not (discount or points_value or shipping_fee):
        nothing = no_money(currency)
        return Totals(subtotal, nothing, nothing, nothing, subtotal)
    total = subtotal - discount - points_value + shipping_fee
    if total < 0:
        raise ValueError(f"total {total} is below zero")
    return Totals(
        subtotal=subtotal,
        discount=round_money(discount, currency),
        points_value=round_money(points_value, currency),
        shipping_fee=round_money(shipping_fee, currency),
        total=round_money(total, currency),
    )
