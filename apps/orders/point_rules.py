"""Pure rules of points in an order: their worth, what a refund brings back, what an order earns. No I/O, no Django."""

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from apps.orders.domain import currency_decimals, no_money

_PER_MILLE: Final = Decimal("0.001")


class PointsUse(NamedTuple):
    """How many points an order uses, and what they pay of it, in its currency."""

    points: int
    value: Decimal


class LinePart(NamedTuple):
    """What a line weighs (money), and how many of its units have been given back."""

    weight: Decimal
    quantity: int
    refunded_quantity: int


def points_use(wanted: int, *, payable: Decimal, max_percent: int, point_value: Decimal, currency: str) -> PointsUse:
    """Return what so many points pay of `payable`: at most the share that points may pay, in whole smallest units.

    No more points are used than that takes. Below a share of 100 percent something is left to pay, since the share is
    rounded down.
    """
    limit = _rounded_down(payable * max_percent / 100, currency)
    value = min(_rounded_down(wanted * point_value, currency), limit)
    if value <= 0:
        return PointsUse(0, no_money(currency))
    return PointsUse(int((value / point_value).to_integral_value(ROUND_CEILING)), value)


def points_earned(paid: Decimal, *, per_mille: int, point_value: Decimal) -> int:
    """Return the points whose worth is so many thousandths of what was paid, rounded down."""
    return int((paid * per_mille * _PER_MILLE / point_value).to_integral_value(ROUND_DOWN))


def points_back(points_used: int, lines: Iterable[LinePart]) -> int:
    """Return how many of an order's points have come back by now; lines weigh what points have paid of them.

    All of them when everything was given back, and never more than the share of what was: a sequence of partial refunds
    ends exactly, in whatever parts.
    """
    return int(points_used * _share_given_back(lines))


def points_clawed_back(earned: int, lines: Iterable[LinePart]) -> int:
    """Return how many of the points that an order brought have been taken back by now; lines weigh what was paid.

    What is kept is rounded down, as what is earned is.
    """
    return earned - int(earned * (1 - _share_given_back(lines)))


def _share_given_back(lines: Iterable[LinePart]) -> Fraction:
    parts = list(lines)
    if all(part.refunded_quantity == part.quantity for part in parts):
        return Fraction(1)
    whole = sum((Fraction(part.weight) for part in parts), Fraction(0))
    if not whole:
        return Fraction(0)
    back = sum((Fraction(part.weight) * part.refunded_quantity / part.quantity for part in parts), Fraction(0))
    return back / whole


def _rounded_down(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-currency_decimals(currency)), ROUND_DOWN)
