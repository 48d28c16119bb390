"""Frozen values of points that cross the border of promotions."""

from dataclasses import dataclass
from datetime import date, datetime

from apps.promotions.points.domain import PointsKind


@dataclass(frozen=True, slots=True)
class Spending:
    """Points that an order uses."""

    order_id: int
    user_id: int
    points: int


@dataclass(frozen=True, slots=True)
class Earning:
    """Points that a completed order brings; `clawed_back` of them are for what was refunded before it completed."""

    order_id: int
    user_id: int
    points: int
    clawed_back: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a refund leaves: how many of an order's points have come back by now, and how many were taken back.

    Both count from the order's beginning, so that any sequence of partial refunds ends exactly. `refund_n` is the
    number of the refund, which lets it in once.
    """

    order_id: int
    user_id: int
    refund_n: int
    restored: int
    clawed_back: int


@dataclass(frozen=True, slots=True)
class PointsView:
    """What a user has, and owes; `lots` are (points, day on which they expire), the soonest first."""

    balance: int
    owed: int
    lots: tuple[tuple[int, date], ...] = ()


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of the ledger: what it added to the balance, and to what is owed.

    `actor` and `reason` are for the staff; a shopper is not shown them.
    """

    id: int
    kind: PointsKind
    n: int
    at: datetime
    points: int
    owed: int
    actor: str
    reason: str
