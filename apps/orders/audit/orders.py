"""Orders by themselves, on their shard: sums, versions, times. Each statement is one snapshot of one month."""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, MonthTables, differing_slots, fetch, months_of, utc
from apps.orders.models import OrderKind
from apps.orders.services.expiry import expire_orders

_REAL = f"o.kind = {OrderKind.REAL:d}"


def totals_add_up(alias: str, now: datetime) -> Iterator[Finding]:
    """`total = subtotal - discount - points_value + shipping_fee`, price times quantity, nothing below zero."""
    for month in months_of(alias):
        for order_id, subtotal, discount, points, shipping, total in fetch(
            alias,
            f"SELECT o.id, o.subtotal, o.discount, o.points_value, o.shipping_fee, o.total FROM {month.order} o "
            f"WHERE {_REAL} AND (o.total < 0 OR o.subtotal < 0 "
            f"OR o.total <> o.subtotal - o.discount - o.points_value + o.shipping_fee) LIMIT {MAX_FINDINGS}",
        ):
            yield Finding(
                "totals",
                alias,
                f"order {order_id}",
                f"subtotal {subtotal:f} - discount {discount:f} - points {points:f} + shipping {shipping:f} "
                f"is not the total {total:f}",
            )
        # Imported prices may have more decimals than their currency; all others have no more, and multiply exactly.
        for order_id, line in fetch(
            alias,
            f"SELECT order_id, line FROM {month.line} "
            "WHERE ABS(line_total - unit_price * quantity) > 0.005 OR quantity <= 0 "
            "OR refunded_quantity > quantity OR refunded_quantity < 0 "
            f"OR returned_quantity > quantity OR returned_quantity < 0 LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("totals", alias, f"order {order_id}, line {line}", "price times quantity is not the total")


def lines_sum_to_the_subtotal(alias: str, now: datetime) -> Iterator[Finding]:
    """The lines of each order sum to its subtotal, and all lines have their order."""
    for month in months_of(alias):
        sums = f"SELECT slot, order_id, SUM(line_total) AS line_sum FROM {month.line}"
        slots = differing_slots(
            alias,
            f"SELECT o.slot, COUNT(*), SUM(CRC32(CONCAT(o.id, ':', o.subtotal))) FROM {month.order} o "
            f"WHERE {_REAL} GROUP BY o.slot",
            "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(order_id, ':', line_sum))) "
            f"FROM ({sums} GROUP BY slot, order_id) l GROUP BY slot",
        )
        if not slots:
            continue
        for order_id, subtotal, line_sum in fetch(
            alias,
            f"SELECT o.id, o.subtotal, COALESCE(l.line_sum, 0) FROM {month.order} o "
            f"LEFT JOIN ({sums} WHERE slot IN ({slots}) GROUP BY slot, order_id) l "
            "ON l.slot = o.slot AND l.order_id = o.id "
            f"WHERE o.slot IN ({slots}) AND {_REAL} AND o.subtotal <> COALESCE(l.line_sum, 0) LIMIT {MAX_FINDINGS}",
        ):
            yield Finding(
                "totals", alias, f"order {order_id}, lines", f"lines {line_sum:f} are not the subtotal {subtotal:f}"
            )
        yield from _orphans(alias, month, month.line, f"t.slot IN ({slots}) AND ")


def versions_have_no_gaps(alias: str, now: datetime) -> Iterator[Finding]:
    """Each order has exactly one event for each of its versions, from 1 on, and all events have their order."""
    for month in months_of(alias):
        counts = f"SELECT slot, order_id, COUNT(*) AS events, MAX(version) AS highest FROM {month.event}"
        slots = differing_slots(
            alias,
            f"SELECT o.slot, COUNT(*), SUM(CRC32(CONCAT(o.id, ':', o.version, ':', o.version))) FROM {month.order} o "
            f"WHERE {_REAL} GROUP BY o.slot",
            "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(order_id, ':', events, ':', highest))) "
            f"FROM ({counts} GROUP BY slot, order_id) e GROUP BY slot",
        )
        if not slots:
            continue
        for order_id, version, events, highest in fetch(
            alias,
            f"SELECT o.id, o.version, COALESCE(e.events, 0), COALESCE(e.highest, 0) FROM {month.order} o "
            f"LEFT JOIN ({counts} WHERE slot IN ({slots}) GROUP BY slot, order_id) e "
            "ON e.slot = o.slot AND e.order_id = o.id "
            f"WHERE o.slot IN ({slots}) AND {_REAL} "
            f"AND (o.version <> COALESCE(e.events, 0) OR o.version <> COALESCE(e.highest, 0)) LIMIT {MAX_FINDINGS}",
        ):
            yield Finding(
                "versions",
                alias,
                f"order {order_id}",
                f"at version {version} with {events} events, the last of version {highest}",
            )
        yield from _orphans(alias, month, month.event, f"t.slot IN ({slots}) AND ")


def payments_have_their_order(alias: str, now: datetime) -> Iterator[Finding]:
    """All payments and refunds have their order."""
    for month in months_of(alias):
        for table in (month.attempt, month.refund):
            yield from _orphans(alias, month, table, "")


def _orphans(alias: str, month: MonthTables, table: str, condition: str) -> Iterator[Finding]:
    for (order_id,) in fetch(
        alias,
        f"SELECT DISTINCT t.order_id FROM {table} t "
        f"LEFT JOIN {month.order} o ON o.slot = t.slot AND o.id = t.order_id AND {_REAL} "
        f"WHERE {condition}o.id IS NULL LIMIT {MAX_FINDINGS}",
    ):
        yield Finding("orphans", alias, f"order {order_id} in {table}", "rows of an order that is not there")


def orders_have_their_customer(alias: str, now: datetime) -> Iterator[Finding]:
    """The customer of each order is on its shard, in its slot."""
    for month in months_of(alias):
        for order_id, user_id in fetch(
            alias,
            f"SELECT o.id, o.user_id FROM {month.order} o "
            "LEFT JOIN users_customer c ON c.slot = o.slot AND c.user_id = o.user_id "
            f"WHERE {_REAL} AND c.user_id IS NULL LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("orphans", alias, f"order {order_id}", f"its customer {user_id} is not in its slot")


def unpaid_orders_expire(alias: str, now: datetime) -> Iterator[Finding]:
    """No unpaid order outlives its time by more than the provider's grace and the bound of a backlog."""
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT id, expires_at FROM {month.order} "
            "WHERE status = 'pending_payment' AND payment_status <> 'authorized' "
            f"AND expires_at < UTC_TIMESTAMP(6) LIMIT {MAX_FINDINGS}",
        )
        for order_id, expires_at in rows:
            yield Finding(
                "expiry",
                alias,
                f"order {order_id}",
                f"unpaid and open, though it expired at {expires_at:%Y-%m-%d %H:%M:%S}",
                since=utc(expires_at),
                bound_s=settings.ORDER_EXPIRY_PROVIDER_GRACE_S + BACKLOG_BOUND_S,
                mend=_expire,
            )


def _expire(now: datetime) -> None:
    expire_orders(now=now)
