"""Reads of points: what a user has, and the movements of the ledger."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connections

from apps.promotions.points import statements
from apps.promotions.points.domain import Account, PointsKind
from apps.promotions.points.models import PointsEntry
from apps.promotions.points.statements import Reference
from apps.promotions.points.types import Movement, PointsView
from infra.api.pagination import Page
from infra.mysql.literals import moment, text
from infra.sharding.month_register import existing_months, month_register
from infra.sharding.places import place_of_user

MAX_LEDGER_MONTHS: Final = 36
"""The list of movements reaches so many months back: an entry is in the month of its order."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def points_of(user_id: int) -> PointsView:
    """Return what a user has, and owes; one who never had points has none."""
    alias = place_of_user(user_id).alias
    balance, owed = statements.read_balances(alias, [user_id]).get(user_id, (0, 0))
    lots = statements.read_lots(alias, [user_id])[user_id]
    return PointsView(balance, owed, tuple((points, lot) for lot, points in sorted(lots.items())))


def balances_of(alias: str, user_ids: Collection[int]) -> dict[int, int]:
    """Return what users of one shard can spend; read without locks, so only a guess of what a write will find."""
    found = statements.read_balances(alias, user_ids)
    return {user_id: found.get(user_id, (0, 0))[0] for user_id in user_ids}


def earned_by(alias: str, order_id: int) -> int:
    """Return how many points an order has brought, before anything of it was taken back."""
    moves = statements.read_postings(alias, [order_id]).get(Reference(order_id, PointsKind.EARNED), [])
    return sum(move.points for move in moves)


def movements_of(user_id: int, *, limit: int, before: Sequence[int | str] | None = None) -> Page[Movement]:
    """Return a page of a user's movements, newest first; `before` is the key of the page before.

    One statement over the months, each of which gives no more than the page has.
    """
    place = place_of_user(user_id)
    months = [
        month
        for month in existing_months(place.alias)[-MAX_LEDGER_MONTHS:]
        if month_register.find(place.alias, PointsEntry.table, month) is not None
    ]
    if not months:
        return Page(rows=[], next_key=None)
    key = "" if before is None else f"AND {_older_than(before)} "
    balance = f"IF(credit='{Account.BALANCE}', points, IF(debit='{Account.BALANCE}', -points, 0))"
    owed = f"IF(debit='{Account.OWED}', points, IF(credit='{Account.OWED}', -points, 0))"
    order = "ORDER BY at DESC, id DESC, kind DESC, n DESC"
    parts = [
        f"(SELECT id, kind, n, at, SUM({balance}) AS points, SUM({owed}) AS owed, "  # noqa: S608 - literals
        f"MIN(actor) AS actor, MIN(reason) AS reason FROM {PointsEntry.objects.table_for(month)} "
        f"WHERE slot={place.slot} AND user_id={user_id:d} {key}GROUP BY at, id, kind, n {order} LIMIT {limit + 1:d})"
        for month in months
    ]
    with connections[place.alias].cursor() as cursor:
        cursor.execute(f"{' UNION ALL '.join(parts)} {order} LIMIT {limit + 1:d}")
        rows = [_movement(row) for row in cursor.fetchall()]
    page = rows[:limit]
    return Page(rows=page, next_key=_key_of(page[-1]) if len(rows) > limit else None)


def _movement(row: tuple[Any, ...]) -> Movement:
    id_, kind, n, at, points, owed, actor, reason = row
    return Movement(id_, PointsKind(kind), n, at.replace(tzinfo=UTC), int(points), int(owed), actor, reason)


def _key_of(movement: Movement) -> list[int | str]:
    return [(movement.at - _EPOCH) // _MICROSECOND, movement.id, str(movement.kind), movement.n]


def _older_than(key: Sequence[int | str]) -> str:
    """Return the condition for what comes after a key in the list."""
    micros, id_, kind, n = key
    at = moment(_EPOCH + int(micros) * _MICROSECOND)
    return (
        f"(at < {at} OR (at = {at} AND (id < {int(id_)} OR "
        f"(id = {int(id_)} AND (kind < {text(str(kind))} OR (kind = {text(str(kind))} AND n < {int(n)}))))))"
    )
