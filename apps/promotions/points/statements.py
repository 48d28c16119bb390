"""The statements over balances, lots and entries, written as SQL: one round trip for a whole batch.

They run inside the caller's transaction on one shard and return what the server counted; callers decide what it means.
Rows are always locked in one order: balances by (slot, user), then lots by (slot, user, day).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, NamedTuple

from django.db import connections

from apps.promotions.points.domain import Account, Move, PointsKind
from apps.promotions.points.models import PointsEntry
from infra.mysql.literals import moment, text
from infra.sharding.ids import slot_of
from infra.sharding.month_register import month_register
from infra.sharding.monthly import telling_month_errors
from infra.sharding.months import Month
from infra.sharding.slots import slot_of_user

LotKey = tuple[int, date]
"""User and day of expiry."""

_ENTRY_COLUMNS: Final = "slot, id, kind, n, line, user_id, debit, credit, points, lot, at, actor, reason"


class Reference(NamedTuple):
    """What lets a movement in once: an order's id (or one of its own), the kind, the number of a refund."""

    id: int
    kind: PointsKind
    n: int = 0


class DueLot(NamedTuple):
    """A lot whose day has come, in the order in which they are swept."""

    expires_on: date
    slot: int
    user_id: int


class Posting(NamedTuple):
    """One movement: its reference, whose it is, who did it and why, and its moves."""

    reference: Reference
    user_id: int
    moves: Sequence[Move]
    actor: str = "system"
    reason: str = ""


def read_balances(alias: str, user_ids: Collection[int]) -> dict[int, tuple[int, int]]:
    """Return (balance, owed) of those of the users who ever had points."""
    if not user_ids:
        return {}
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT user_id, balance, owed FROM promotions_points_balance FORCE INDEX (PRIMARY) "  # noqa: S608 - numbers
            f"WHERE {_users(user_ids)}"
        )
        return {user_id: (balance, owed) for user_id, balance, owed in cursor.fetchall()}


def ensure_balances(alias: str, user_ids: Collection[int], *, now: datetime) -> None:
    """Lock the balances of the users until the transaction ends; those who never had points get an empty one."""
    rows = ",".join([f"({slot},{user_id},0,0,1,{moment(now)})" for slot, user_id in _keys(user_ids)])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO promotions_points_balance (slot, user_id, balance, owed, version, updated_at) "  # noqa: S608 - literals
            f"VALUES {rows} ON DUPLICATE KEY UPDATE balance = balance"
        )


def change_balances(alias: str, changes: Mapping[int, tuple[int, int]], *, now: datetime) -> int:
    """Add to (balance, owed) of users where neither falls below zero; return for how many it did not.

    Fewer than asked means that somebody has not as much: the caller must roll back. FOUND_ROWS and the version make the
    count the number of rows that passed the guard.
    """
    keyed = [(slot, user_id, *changes[user_id]) for slot, user_id in _keys(changes)]
    assignments = [f"balance = balance + {_by_user({user_id: by for _, user_id, by, _ in keyed})}"]
    if any(debt for *_, debt in keyed):
        assignments.append(f"owed = owed + {_by_user({user_id: debt for _, user_id, _, debt in keyed})}")
    guards = " OR ".join(
        [
            f"(slot={slot} AND user_id={user_id} AND balance >= {-by} AND owed >= {-debt})"
            for slot, user_id, by, debt in keyed
        ]
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"UPDATE promotions_points_balance FORCE INDEX (PRIMARY) SET {', '.join(assignments)}, "  # noqa: S608 - literals
            f"version = version + 1, updated_at = {moment(now)} WHERE {guards}"
        )
        return cursor.rowcount


def read_lots(alias: str, user_ids: Collection[int]) -> dict[int, dict[date, int]]:
    """Return what remains in the lots of each user, by day of expiry; whoever holds the balances holds the lots."""
    lots: dict[int, dict[date, int]] = {user_id: {} for user_id in user_ids}
    if not lots:
        return lots
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT user_id, expires_on, remaining FROM promotions_points_lot FORCE INDEX (PRIMARY) "  # noqa: S608 - numbers
            f"WHERE ({_users(user_ids)}) AND remaining > 0"
        )
        for user_id, expires_on, remaining in cursor.fetchall():
            lots[user_id][expires_on] = remaining
    return lots


def take_from_lots(alias: str, points: Mapping[LotKey, int]) -> int:
    """Lower what remains in lots; return how many had as much."""
    rows = _lot_rows(points)
    taken = "CASE " + " ".join([f"WHEN {condition} THEN {by}" for condition, by in rows]) + " END"
    guards = " OR ".join([f"({condition} AND remaining >= {by})" for condition, by in rows])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"UPDATE promotions_points_lot FORCE INDEX (PRIMARY) SET remaining = remaining - {taken} WHERE {guards}"  # noqa: S608 - literals
        )
        return cursor.rowcount


def put_into_lots(alias: str, points: Mapping[LotKey, int]) -> None:
    """Raise what remains in lots; those that are not there are made."""
    rows = ",".join(
        [
            f"({slot_of_user(user_id)},{user_id},'{expires_on}',{points[user_id, expires_on]})"
            for user_id, expires_on in _lots_in_order(points)
        ]
    )
    added = "CASE " + " ".join([f"WHEN {condition} THEN {by}" for condition, by in _lot_rows(points)]) + " END"
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO promotions_points_lot (slot, user_id, expires_on, remaining) "  # noqa: S608 - literals
            f"VALUES {rows} ON DUPLICATE KEY UPDATE remaining = remaining + {added}"
        )


def lots_until(alias: str, day: date, *, after: DueLot, limit: int) -> list[DueLot]:
    """Return lots of the shard that expire on the day or before, oldest first, from the one behind `after` on."""
    expires_on, slot, user_id = after
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT expires_on, slot, user_id FROM promotions_points_lot WHERE expires_on <= %s AND expires_on >= %s "
            "AND (expires_on > %s OR slot > %s OR (slot = %s AND user_id > %s)) "
            "ORDER BY expires_on, slot, user_id LIMIT %s",
            [day, expires_on, expires_on, slot, slot, user_id, limit],
        )
        return [DueLot(*row) for row in cursor.fetchall()]


def delete_lots_until(alias: str, user_ids: Collection[int], day: date) -> None:
    """Delete the lots of users that expire on the day or before."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"DELETE FROM promotions_points_lot WHERE ({_users(user_ids)}) AND expires_on <= %s",  # noqa: S608 - numbers
            [day],
        )


def insert_entries(alias: str, postings: Iterable[Posting], *, now: datetime) -> None:
    """Write the ledger's rows of movements. Raises IntegrityError (1062) when one of the references is in already."""
    by_month: dict[Month, list[str]] = defaultdict(list)
    at = moment(now)
    for posting in postings:
        reference = posting.reference
        head = f"({slot_of(reference.id)},{reference.id},'{reference.kind}',{reference.n},"
        by = f"{at},{text(posting.actor)},{text(posting.reason)})"
        by_month[Month.of_id(reference.id)] += [
            f"{head}{line},{posting.user_id},'{move.debit}','{move.credit}',{move.points},"
            f"{'NULL' if move.lot is None else repr(str(move.lot))},{by}"
            for line, move in enumerate(posting.moves, start=1)
        ]
    for month, rows in by_month.items():
        table = PointsEntry.objects.table_for(month)
        with telling_month_errors(table=PointsEntry.table, month=month, alias=alias):  # noqa: SIM117 - the cursor inside
            with connections[alias].cursor() as cursor:
                cursor.execute(f"INSERT INTO {table} ({_ENTRY_COLUMNS}) VALUES {','.join(rows)}")  # noqa: S608 - literals


def read_postings(alias: str, ids: Collection[int]) -> dict[Reference, list[Move]]:
    """Return the moves of all movements that are in the ledger under these ids."""
    by_month: dict[Month, list[int]] = defaultdict(list)
    for each in sorted(ids):
        by_month[Month.of_id(each)].append(each)
    postings: dict[Reference, list[Move]] = defaultdict(list)
    for month, members in by_month.items():
        condition = " OR ".join([f"(slot={slot_of(each)} AND id={each})" for each in members])
        table = PointsEntry.objects.table_for(month)
        with telling_month_errors(table=PointsEntry.table, month=month, alias=alias):  # noqa: SIM117 - the cursor inside
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    f"SELECT id, kind, n, debit, credit, points, lot FROM {table} FORCE INDEX (PRIMARY) "  # noqa: S608 - numbers
                    f"WHERE {condition} ORDER BY id, kind, n, line"
                )
                for id_, kind, n, debit, credit, points, lot in cursor.fetchall():
                    move = Move(Account(debit), Account(credit), points, lot)
                    postings[Reference(id_, PointsKind(kind), n)].append(move)
    return dict(postings)


def granted_since(alias: str, user_id: int, since: datetime, months: Iterable[Month]) -> int:
    """Return how many points a user was granted since a moment, by the entries of these months."""
    total = 0
    for month in months:
        if month_register.find(alias, PointsEntry.table, month) is None:
            continue
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"SELECT COALESCE(SUM(points), 0) FROM {PointsEntry.objects.table_for(month)} "  # noqa: S608 - constants
                f"WHERE slot = %s AND user_id = %s AND at >= {moment(since)} AND kind = %s",
                [slot_of_user(user_id), user_id, PointsKind.GRANTED],
            )
            total += int(cursor.fetchone()[0])
    return total


def _keys(user_ids: Collection[int]) -> list[tuple[int, int]]:
    """Return the keys of users' balances, in the order in which rows are locked."""
    return sorted((slot_of_user(user_id), user_id) for user_id in user_ids)


def _users(user_ids: Collection[int]) -> str:
    return " OR ".join([f"(slot={slot} AND user_id={user_id:d})" for slot, user_id in _keys(user_ids)])


def _by_user(numbers: Mapping[int, int]) -> str:
    """Return an expression for the number of the row's user."""
    if len(set(numbers.values())) == 1:
        return str(next(iter(numbers.values())))
    return "CASE user_id " + " ".join([f"WHEN {user_id} THEN {number}" for user_id, number in numbers.items()]) + " END"


def _lots_in_order(points: Mapping[LotKey, int]) -> list[LotKey]:
    return sorted(points, key=lambda lot: (slot_of_user(lot[0]), lot))


def _lot_rows(points: Mapping[LotKey, int]) -> list[tuple[str, int]]:
    """Return for each lot a condition over its key, and its points; ORs of these are ranges on both servers."""
    return [
        (
            f"slot={slot_of_user(user_id)} AND user_id={user_id} AND expires_on='{expires_on}'",
            points[user_id, expires_on],
        )
        for user_id, expires_on in _lots_in_order(points)
    ]
