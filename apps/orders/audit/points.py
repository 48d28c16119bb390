"""Points: the ledger against balances, lots and orders; a user is on one shard, so each statement is a snapshot."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from functools import partial
from typing import Final

from apps.orders.audit.findings import Finding
from apps.orders.audit.reading import MAX_FINDINGS, differing_slots, fetch
from apps.orders.domain import OrderStatus, PaymentStatus
from apps.orders.models import Order, OrderKind
from apps.promotions.points.domain import ALLOWED_MOVES, OF_NO_ORDER, Account, PointsKind
from apps.promotions.points.models import PointsEntry
from apps.promotions.points.services import expire_lots
from infra.sharding.month_register import made_tables

# Lots are expired once an hour.
EXPIRY_BOUND_S: Final = 2 * 3600
_TO_BALANCE: Final = f"IF(credit = '{Account.BALANCE}', points, IF(debit = '{Account.BALANCE}', -points, 0))"
_TO_OWED: Final = f"IF(debit = '{Account.OWED}', points, IF(credit = '{Account.OWED}', -points, 0))"


def entries_are_allowed(alias: str, now: datetime) -> Iterator[Finding]:
    """Each entry of the points ledger moves points between accounts that its kind may, and names its lot."""
    allowed = " OR ".join(
        f"(kind = '{kind}' AND debit = '{debit}' AND credit = '{credit}')"
        for kind, pairs in ALLOWED_MOVES.items()
        for debit, credit in sorted(pairs)
    )
    of_balance = f"(debit = '{Account.BALANCE}' OR credit = '{Account.BALANCE}')"
    for table, _ in _months(alias):
        for id_, kind, n, debit, credit, points in fetch(
            alias,
            f"SELECT id, kind, n, debit, credit, points FROM {table} "
            f"WHERE points <= 0 OR NOT ({allowed}) OR (lot IS NULL) = {of_balance} LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("points", alias, f"entry {id_} {kind} {n}", f"{points} from {debit} to {credit}")


def balances_are_what_was_booked(alias: str, now: datetime) -> Iterator[Finding]:
    """What each user has in points, and owes, are the sums of the ledger."""
    entries = _entries(alias, f"slot, user_id, {_TO_BALANCE} AS booked, {_TO_OWED} AS owed")
    if not entries:
        return
    summed = "SELECT slot, user_id, SUM(booked) AS has, SUM(owed) AS owes"
    slots = differing_slots(
        alias,
        "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(user_id, ':', balance, ':', owed))) FROM promotions_points_balance "
        "WHERE balance <> 0 OR owed <> 0 GROUP BY slot",
        "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(user_id, ':', has, ':', owes))) "
        f"FROM ({summed} FROM ({entries}) e GROUP BY slot, user_id HAVING SUM(booked) <> 0 OR SUM(owed) <> 0) s "
        "GROUP BY slot",
    )
    if not slots:
        return
    for user_id, balance, owed, booked, booked_owed in fetch(
        alias,
        "SELECT user_id, SUM(balance), SUM(owed), SUM(booked), SUM(booked_owed) FROM ("
        "SELECT slot, user_id, balance, owed, 0 AS booked, 0 AS booked_owed FROM promotions_points_balance "
        f"UNION ALL SELECT slot, user_id, 0, 0, booked, owed FROM ({entries}) e) sides WHERE slot IN ({slots}) "
        "GROUP BY slot, user_id HAVING SUM(balance) <> SUM(booked) OR SUM(owed) <> SUM(booked_owed) "
        f"LIMIT {MAX_FINDINGS}",
    ):
        yield Finding(
            "points",
            alias,
            f"points of user {user_id}",
            f"balance {balance}, owed {owed}; the ledger says {booked} and {booked_owed}",
        )


def lots_are_what_was_booked(alias: str, now: datetime) -> Iterator[Finding]:
    """What remains in each lot of points is the sum of the entries that name it, so the lots sum to the balance."""
    entries = _entries(alias, f"slot, user_id, lot, {_TO_BALANCE} AS booked", where="lot IS NOT NULL")
    if not entries:
        return
    slots = differing_slots(
        alias,
        "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(user_id, ':', expires_on, ':', remaining))) "
        "FROM promotions_points_lot WHERE remaining <> 0 GROUP BY slot",
        "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(user_id, ':', lot, ':', has))) "
        f"FROM (SELECT slot, user_id, lot, SUM(booked) AS has FROM ({entries}) e "
        "GROUP BY slot, user_id, lot HAVING SUM(booked) <> 0) s GROUP BY slot",
    )
    if not slots:
        return
    for user_id, lot, remaining, booked in fetch(
        alias,
        "SELECT user_id, lot, SUM(remaining), SUM(booked) FROM ("
        "SELECT slot, user_id, expires_on AS lot, remaining, 0 AS booked FROM promotions_points_lot "
        f"UNION ALL SELECT slot, user_id, lot, 0, booked FROM ({entries}) e) sides WHERE slot IN ({slots}) "
        f"GROUP BY slot, user_id, lot HAVING SUM(remaining) <> SUM(booked) LIMIT {MAX_FINDINGS}",
    ):
        yield Finding(
            "points", alias, f"points of user {user_id} until {lot}", f"{remaining} remain, the ledger says {booked}"
        )


def points_agree_with_orders(alias: str, now: datetime) -> Iterator[Finding]:
    """Each order has spent the points that it used; they, and what it earned, have followed its state."""
    sums = ", ".join(f"SUM(IF(kind = '{kind}', points, 0)) AS {kind}" for kind in PointsKind if kind not in OF_NO_ORDER)
    kinds = ", ".join(f"'{kind}'" for kind in PointsKind if kind not in OF_NO_ORDER)
    given_back = f"'{OrderStatus.CANCELLED}', '{OrderStatus.EXPIRED}', '{OrderStatus.REFUNDED}'"
    for entries, orders in _months(alias):
        real = f"o.kind = {OrderKind.REAL:d}"
        for order_id, status, used, spent, restored, earned, clawed_back in fetch(
            alias,
            "SELECT e.id, o.status, o.points_used, e.spent, e.restored, e.earned, e.clawed_back "
            f"FROM (SELECT slot, id, MIN(user_id) AS user_id, MAX(user_id) AS other, {sums} FROM {entries} "
            f"WHERE kind IN ({kinds}) GROUP BY slot, id) e "
            f"LEFT JOIN {orders} o ON o.slot = e.slot AND o.id = e.id AND {real} "
            "WHERE o.id IS NULL OR o.user_id <> e.user_id OR o.user_id <> e.other OR o.points_used <> e.spent "
            "OR e.restored > e.spent OR e.clawed_back > e.earned "
            f"OR (o.status IN ({given_back}) AND (e.restored <> e.spent OR e.clawed_back <> e.earned)) "
            f"OR (o.status NOT IN ({given_back}) AND o.payment_status <> '{PaymentStatus.PARTIALLY_REFUNDED}' "
            f"AND (e.restored <> 0 OR e.clawed_back <> 0)) LIMIT {MAX_FINDINGS}",
        ):
            yield Finding(
                "points",
                alias,
                f"points of order {order_id}",
                f"{status or 'no order'}: used {used or 0}; spent {spent}, restored {restored}, earned {earned}, "
                f"clawed back {clawed_back}",
            )
        for order_id, used in fetch(
            alias,
            f"SELECT o.id, o.points_used FROM {orders} o WHERE {real} AND o.points_used <> 0 AND NOT EXISTS "
            f"(SELECT 1 FROM {entries} e WHERE e.slot = o.slot AND e.id = o.id AND e.kind = '{PointsKind.SPENT}') "
            f"LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("points", alias, f"points of order {order_id}", f"used {used}, and none were spent")


def lots_expire(alias: str, now: datetime) -> Iterator[Finding]:
    """Points whose day has come are expired within two hours."""
    for oldest, count in fetch(
        alias,
        "SELECT MIN(expires_on), COUNT(*) FROM promotions_points_lot WHERE expires_on <= %s HAVING COUNT(*) > 0",
        [now.date()],
    ):
        yield Finding(
            "points",
            alias,
            "lots that are due",
            f"{count}, since {oldest}",
            since=datetime.combine(oldest, time.min, UTC),
            bound_s=EXPIRY_BOUND_S,
            mend=partial(_expire, alias),
        )


def _months(alias: str) -> list[tuple[str, str]]:
    """Return the tables of the ledger, and of the orders, of the months that have both."""
    made = {(table.table, table.month): table.name for table in made_tables(alias)}
    return [
        (name, made[Order.table, month])
        for (table, month), name in made.items()
        if table == PointsEntry.table and (Order.table, month) in made
    ]


def _entries(alias: str, columns: str, *, where: str = "TRUE") -> str:
    """Return a statement over the entries of all months; empty where there are none yet."""
    tables = [table for table, _ in _months(alias)]
    return " UNION ALL ".join(f"SELECT {columns} FROM {table} WHERE {where}" for table in tables)


def _expire(alias: str, now: datetime) -> None:
    expire_lots(alias, now=now)
