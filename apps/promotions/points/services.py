"""Writes of points: spent, restored, earned, clawed back, granted, expired.

Each movement is in the ledger once, whoever asks how often: what is under its reference already is left alone. All but
grants and the sweep are called inside the transaction of the fact that causes them, which has read the fences.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings

from apps.promotions.points import statements
from apps.promotions.points.books import Books, book_spendings
from apps.promotions.points.domain import (
    MAX_POINTS,
    Account,
    Move,
    PointsKind,
    claw,
    credit,
    expiry_of,
    first_of,
    still_spent,
)
from apps.promotions.points.errors import GrantRepeated, GrantTooLarge, PointsMismatch
from apps.promotions.points.statements import DueLot, Posting, Reference
from apps.promotions.points.types import Earning, PointsView, Settlement, Spending
from apps.users.selectors import get_customer
from infra.dynamic.definitions import DynamicInteger
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_user, shard_atomic
from infra.sharding.slots import slot_of_user
from infra.sharding.workers import new_order_id

_log = logging.getLogger(__name__)

EXPIRY_BATCH: Final = 100
LIFETIME_DAYS: Final = DynamicInteger(
    "points.lifetime_days",
    default=365,
    minimum=1,
    maximum=3650,
    meaning="Points that come from now on can be spent for so many days, and until the end of the month then.",
)
MAX_GRANT: Final = DynamicInteger(
    "points.grant.max",
    default=5_000,
    minimum=0,
    maximum=MAX_POINTS,
    meaning="So many points may be granted to a customer at once.",
)
MAX_GRANTED: Final = DynamicInteger(
    "points.grant.max_in_30_days",
    default=20_000,
    minimum=0,
    maximum=MAX_POINTS,
    meaning="So many points may be granted to one customer within 30 days.",
)
_GRANTED_WITHIN: Final = timedelta(days=30)
_MAX_ACTOR_LENGTH: Final = 64


def spend(alias: str, spendings: Sequence[Spending], *, now: datetime) -> None:
    """Spend the points of a batch of new orders, in the transaction that writes them; those of one user as one.

    Raises PointsShort when any user has fewer than all of theirs spend; the caller rolls back.
    Concurrency: one guarded UPDATE, `balance >= n` in the row itself, so no race spends a point twice. The orders' keys
    make it happen once.
    """
    by_user: dict[int, list[tuple[Reference, int]]] = {}
    for spending in spendings:
        reference = Reference(spending.order_id, PointsKind.SPENT)
        by_user.setdefault(spending.user_id, []).append((reference, spending.points))
    book_spendings(alias, by_user, now=now)


def restore(alias: str, spendings: Sequence[Spending], *, now: datetime) -> None:
    """Give back all points of orders that are closed unpaid, in the transaction that closes them, to the same lots.

    Idempotent. What the user owes is paid off first. An order's lot that has expired meanwhile expires again.
    """
    books = Books(alias, {spending.user_id for spending in spendings}, now=now)
    postings = statements.read_postings(alias, {spending.order_id for spending in spendings})
    for spending in spendings:
        _restore(books, postings, spending.order_id, spending.user_id, n=0, target=spending.points, not_before=None)
    books.write()


def earn(alias: str, earnings: Sequence[Earning], *, now: datetime) -> None:
    """Credit what completed orders bring, in the transaction that completes them. Idempotent; debts are paid first."""
    if not earnings:
        return
    books = Books(alias, {earning.user_id for earning in earnings}, now=now)
    postings = statements.read_postings(alias, {earning.order_id for earning in earnings})
    lot = _lot_of_now(now)
    for earning in earnings:
        reference = Reference(earning.order_id, PointsKind.EARNED)
        if reference in postings or not earning.points:
            continue
        user_id = earning.user_id
        moves = credit(Account.ISSUED, [(lot, earning.points)], owed=books.owed(user_id))
        books.book(Posting(reference, user_id, moves))
        postings[reference] = moves
        _claw_back(books, postings, earning.order_id, user_id, n=0, target=earning.clawed_back)
    books.write()


def settle_refund(alias: str, settlement: Settlement, *, now: datetime) -> None:
    """Give back what a refund restores, then take back what was earned, in the transaction in which it succeeds.

    State-based and idempotent: the totals of the settlement are reached, whatever of them was reached before. Points
    that come back are good for POINTS_RESTORED_DAYS at least. What the balance does not cover is owed.
    """
    order_id, user_id = settlement.order_id, settlement.user_id
    books = Books(alias, [user_id], now=now)
    postings = statements.read_postings(alias, [order_id])
    not_before = expiry_of(now, lifetime=timedelta(days=settings.POINTS_RESTORED_DAYS))
    refund = settlement.refund_n
    _restore(books, postings, order_id, user_id, n=refund, target=settlement.restored, not_before=not_before)
    _claw_back(books, postings, order_id, user_id, n=refund, target=settlement.clawed_back)
    books.write()


def grant_points(*, user_id: int, grant_id: int, points: int, actor: str, reason: str, now: datetime) -> PointsView:
    """Give a customer points, as goodwill; return what they have then. `actor` names the member of staff.

    `grant_id` (`new_grant_id`) is made with the form that asks for it, so a repeat changes nothing. It pays off no
    debts: it is meant for the customer.
    Raises CustomerNotFound; GrantTooLarge above the limits, which hold under any race; GrantRepeated when the id is of
    another grant; ValueError for no points, no reason, an actor who is no ASCII word of 64 characters at most, or an id
    of another user's slot.
    """
    is_named = actor.isascii() and 0 < len(actor) <= _MAX_ACTOR_LENGTH
    if not 0 < points <= MAX_POINTS or not reason.strip() or not is_named:
        raise ValueError("A grant is of some points, by somebody, for a reason.")
    if slot_of(grant_id) != slot_of_user(user_id):
        raise ValueError(f"The id {grant_id} is not for grants to user {user_id}.")
    get_customer(user_id)
    place = place_of_user(user_id)
    reference = Reference(grant_id, PointsKind.GRANTED)

    def grant() -> PointsView:
        with place.atomic():
            books = Books(place.alias, [user_id], now=now)
            found = statements.read_postings(place.alias, [grant_id]).get(reference)
            if found is None:
                _check_limits(place.alias, user_id, points, now=now)
                move = Move(Account.ISSUED, Account.BALANCE, points, _lot_of_now(now))
                books.book(Posting(reference, user_id, [move], actor=actor, reason=reason.strip()[:200]))
                books.write()
            elif sum(move.points for move in found) != points:
                raise GrantRepeated("A grant was made under this id already.")
            lots = tuple((remaining, day) for day, remaining in books.lots(user_id))
            return PointsView(books.balance(user_id), books.owed(user_id), lots)

    return with_deadlock_retry(grant)


def new_grant_id(user_id: int) -> int:
    """Return an id for a grant to this user."""
    return new_order_id(user_id)


def expire_lots(alias: str, *, now: datetime) -> int:
    """Expire what remains in the lots of a shard whose day has come; returns how many lots were due.

    Goes on for PURGE_DEADLINE_S seconds at most and leaves the rest to the next call: what has expired is gone from the
    lots. Until then it can still be spent. A user whose books are damaged is left alone, and logged.
    """
    stop_at = time.monotonic() + settings.PURGE_DEADLINE_S
    expired_count = 0
    after = DueLot(date.min, 0, 0)
    while time.monotonic() < stop_at:
        lots = statements.lots_until(alias, now.date(), after=after, limit=EXPIRY_BATCH)
        expired_count += _expire_all(alias, lots, now=now)
        if len(lots) < EXPIRY_BATCH:
            break
        after = lots[-1]
    return expired_count


def _lot_of_now(now: datetime) -> date:
    """Return the lot of points that come now."""
    return expiry_of(now, lifetime=timedelta(days=LIFETIME_DAYS.value))


def _check_limits(alias: str, user_id: int, points: int, *, now: datetime) -> None:
    """Raise GrantTooLarge; the user's balance is locked, so grants to one user are judged one after another."""
    if points > MAX_GRANT.value:
        raise GrantTooLarge(f"At most {MAX_GRANT.value} points may be granted at once.")
    since = now - _GRANTED_WITHIN
    granted = statements.granted_since(alias, user_id, since, {Month.of(since), Month.of(now)})
    if granted + points > MAX_GRANTED.value:
        raise GrantTooLarge(
            f"{granted} points were granted to this customer within 30 days; at most {MAX_GRANTED.value} may be."
        )


def _restore(
    books: Books,
    postings: dict[Reference, list[Move]],
    order_id: int,
    user_id: int,
    *,
    n: int,
    target: int,
    not_before: date | None,
) -> None:
    """Book what is missing until so many points of an order have come back, at most what it has spent."""
    reference = Reference(order_id, PointsKind.RESTORED, n)
    if reference in postings:
        return
    spent = [(move.lot, move.points) for move in postings.get(Reference(order_id, PointsKind.SPENT), ()) if move.lot]
    restored = _total(postings, order_id, PointsKind.RESTORED)
    back = first_of(still_spent(spent, restored=restored), max(target - restored, 0))
    if not_before is not None:
        back = [(max(lot, not_before), points) for lot, points in back]
    moves = credit(Account.SPENT, back, owed=books.owed(user_id))
    books.book(Posting(reference, user_id, moves))
    postings[reference] = moves


def _claw_back(
    books: Books, postings: dict[Reference, list[Move]], order_id: int, user_id: int, *, n: int, target: int
) -> None:
    """Book what is missing until so many points that an order brought have been taken back, at most all of them."""
    reference = Reference(order_id, PointsKind.CLAWED_BACK, n)
    if reference in postings:
        return
    earned = _total(postings, order_id, PointsKind.EARNED)
    missing = min(target, earned) - _total(postings, order_id, PointsKind.CLAWED_BACK)
    if missing <= 0:
        return
    moves = claw(books.lots(user_id), missing, balance=books.balance(user_id))
    books.book(Posting(reference, user_id, moves))
    postings[reference] = moves


def _total(postings: dict[Reference, list[Move]], order_id: int, kind: PointsKind) -> int:
    """Return the points of all movements of a kind under an order's id."""
    return sum(
        move.points
        for reference, moves in postings.items()
        if reference.id == order_id and reference.kind == kind
        for move in moves
    )


def _expire_all(alias: str, lots: Sequence[DueLot], *, now: datetime) -> int:
    """Expire lots in one transaction, or user by user where the books of one of them are damaged."""
    by_user: dict[int, int] = Counter(lot.user_id for lot in lots)
    ids = {user_id: new_order_id(user_id) for user_id in by_user}
    if not ids:
        return 0
    try:
        with_deadlock_retry(partial(_expire, alias, ids, now.date(), now))
    except PointsMismatch:
        if len(ids) == 1:
            _log.exception("points that cannot expire")
            return 0
        return sum(_expire_all(alias, [lot for lot in lots if lot.user_id == each], now=now) for each in ids)
    return len(lots)


def _expire(alias: str, ids: dict[int, int], day: date, now: datetime) -> None:
    """Expire the lots of users that are due, under the ids given for it; deletes them."""
    user_ids: Collection[int] = ids.keys()
    with shard_atomic(alias, {slot_of_user(user_id) for user_id in user_ids}):
        books = Books(alias, user_ids, now=now)
        for user_id, id_ in ids.items():
            moves = [
                Move(Account.BALANCE, Account.EXPIRED, points, lot) for lot, points in books.lots(user_id) if lot <= day
            ]
            books.book(Posting(Reference(id_, PointsKind.EXPIRED), user_id, moves))
        books.write()
        statements.delete_lots_until(alias, user_ids, day)
