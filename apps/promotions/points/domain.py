"""Pure rules of points: the accounts of the ledger, what each kind of entry may move, lots. No I/O, no Django."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

MAX_POINTS: Final = 10**9
"""No balance, and no single movement, is above this."""


class Account(StrEnum):
    """Where points are. BALANCE and OWED are the user's; the others are the shop's side of every movement."""

    BALANCE = "balance"
    """What the user can spend."""
    OWED = "owed"
    """What should have been clawed back when the balance did not cover it; paid off by the next credits."""
    ISSUED = "issued"
    SPENT = "spent"
    EXPIRED = "expired"
    CLAWED_BACK = "clawed_back"


class PointsKind(StrEnum):
    """Why points moved."""

    GRANTED = "granted"
    EARNED = "earned"
    SPENT = "spent"
    RESTORED = "restored"
    CLAWED_BACK = "clawed_back"
    EXPIRED = "expired"


OF_NO_ORDER: Final = frozenset({PointsKind.GRANTED, PointsKind.EXPIRED})
"""Kinds whose reference is an id of their own, instead of an order's."""

ALLOWED_MOVES: Final[Mapping[PointsKind, frozenset[tuple[Account, Account]]]] = {
    PointsKind.GRANTED: frozenset({(Account.ISSUED, Account.BALANCE)}),
    PointsKind.EARNED: frozenset({(Account.ISSUED, Account.BALANCE), (Account.ISSUED, Account.OWED)}),
    PointsKind.SPENT: frozenset({(Account.BALANCE, Account.SPENT)}),
    PointsKind.RESTORED: frozenset({(Account.SPENT, Account.BALANCE), (Account.SPENT, Account.OWED)}),
    PointsKind.CLAWED_BACK: frozenset({(Account.BALANCE, Account.CLAWED_BACK), (Account.OWED, Account.CLAWED_BACK)}),
    PointsKind.EXPIRED: frozenset({(Account.BALANCE, Account.EXPIRED)}),
}
"""Which (debit, credit) an entry of each kind may have."""


class Move(NamedTuple):
    """Points that leave `debit` for `credit`. `lot` is the one that they are drawn from or put into, if either is."""

    debit: Account
    credit: Account
    points: int
    lot: date | None


class NotEnoughInLots(ValueError):
    """The lots hold fewer points than are to be drawn."""


def draw(lots: Iterable[tuple[date, int]], points: int) -> list[tuple[date, int]]:
    """Return what to take from each lot for so many points, the soonest to expire first; raises NotEnoughInLots."""
    drawn = []
    missing = points
    for lot, remaining in sorted(lots):
        if not missing:
            break
        if taken := min(remaining, missing):
            drawn.append((lot, taken))
            missing -= taken
    if missing:
        raise NotEnoughInLots(f"{missing} of {points} points are in no lot")
    return drawn


def credit(source: Account, lots: Iterable[tuple[date, int]], *, owed: int) -> list[Move]:
    """Return the moves of points that come into lots: first they pay off what is owed, then they are the user's."""
    moves = []
    for lot, points in lots:
        paid = min(points, owed)
        owed -= paid
        if paid:
            moves.append(Move(source, Account.OWED, paid, None))
        if points > paid:
            moves.append(Move(source, Account.BALANCE, points - paid, lot))
    return moves


def claw(lots: Sequence[tuple[date, int]], points: int, *, balance: int) -> list[Move]:
    """Return the moves of points that are taken back: from the balance as far as it goes, the rest is owed."""
    covered = min(points, balance)
    moves = [Move(Account.BALANCE, Account.CLAWED_BACK, taken, lot) for lot, taken in draw(lots, covered)]
    if points > covered:
        moves.append(Move(Account.OWED, Account.CLAWED_BACK, points - covered, None))
    return moves


def still_spent(spent: Sequence[tuple[date, int]], *, restored: int) -> list[tuple[date, int]]:
    """Return what of a spending has not been given back yet, by lot, in the order in which it is: latest lot first."""
    left = []
    for lot, points in sorted(spent, reverse=True):
        back = min(points, restored)
        restored -= back
        if points > back:
            left.append((lot, points - back))
    return left


def first_of(lots: Iterable[tuple[date, int]], points: int) -> list[tuple[date, int]]:
    """Return the first so many points of lots, in the order given; all of them if they are fewer."""
    taken = []
    for lot, available in lots:
        if not points:
            break
        part = min(available, points)
        points -= part
        taken.append((lot, part))
    return taken


def expiry_of(at: datetime, *, lifetime: timedelta) -> date:
    """Return the lot of points that come at a moment: the first day of a month, the first after their lifetime.

    All points of a user that come within a month are in one lot, so that a user has at most a dozen or two.
    """
    end = (at + lifetime).date()
    return date(end.year + end.month // 12, end.month % 12 + 1, 1)


def balance_change(moves: Iterable[Move]) -> int:
    """Return what moves add to the balance."""
    return _change(moves, Account.BALANCE)


def owed_change(moves: Iterable[Move]) -> int:
    """Return what moves add to what is owed: a debit raises it."""
    return -_change(moves, Account.OWED)


def _change(moves: Iterable[Move], account: Account) -> int:
    return sum(
        (move.points if move.credit == account else 0) - (move.points if move.debit == account else 0) for move in moves
    )
