"""Orders by themselves, on their shard: sums, versions, times. Each statement is one snapshot of one month."""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch, months_of, utc
from apps.orders.models import OrderKind
from apps.orders.services.expiry import expire_orders

_REAL = f"o.kind = {OrderKind.REAL:d}"


def totals_add_up(alias: str, now: datetime) -> Iterator[Finding]:
    """Lines sum to the subtotal, `total = subtotal - discount - points_value + shipping_fee`, nothing below zero."""
    for month in months_of(alias):
        rows = fetch(
            alias,
            "SELECT o.id, o.subtotal, o.total, o.discount, o.points_value, o.shipping_fee, COALESCE(l.line_sum, 0) "
            f"FROM {month.order} o LEFT JOIN "
            f"(SELECT slot, order_id, SUM(line_total) AS line_sum FROM {month.line} GROUP BY slot, order_id) l "
            "ON l.slot = o.slot AND l.order_id = o.id "
            f"WHERE {_REAL} AND (o.subtotal <> COALESCE(l.line_sum, 0) OR o.total < 0 OR o.subtotal < 0 "
            "OR o.total <> o.subtotal - o.discount - o.points_value + o.shipping_fee) "
            f"LIMIT {MAX_FINDINGS}",
        )
        for order_id, subtotal, total, discount, points, shipping, lines in rows:
            yield Finding(
                "totals",
                alias,
                f"order {order_id}",
                f"lines {lines:f}, subtotal {subtotal:f} - discount {discount:f} - points {points:f} "
                f"+ shipping {shipping:f}, total {total:f}",
            )
        # Imported prices may have more decimals than their currency; all others have no more, and multiply exactly.
        for order_id, line in fetch(
            alias,
            f"SELECT order_id, line FROM {month.line} "
            "WHERE ABS(line_total - unit_price * quantity) > 0.005 OR quantity <= 0 "
            f"OR refunded_quantity > quantity OR refunded_quantity < 0 LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("totals", alias, f"order {order_id}, line {line}", "price times quantity is not the total")


def lines_have_their_order(alias: str, now: datetime) -> Iterator[Finding]:
    """Lines, events, attempts and refunds belong to a real order, and an order has lines."""
    for month in months_of(alias):
        for table in (month.line, month.event, month.attempt, month.refund):
            for (order_id,) in fetch(
                alias,
                f"SELECT DISTINCT t.order_id FROM {table} t "
                f"LEFT JOIN {month.order} o ON o.slot = t.slot AND o.id = t.order_id AND {_REAL} "
                f"WHERE o.id IS NULL LIMIT {MAX_FINDINGS}",
            ):
                yield Finding("orphans", alias, f"order {order_id} in {table}", "rows of an order that is not there")


def versions_have_no_gaps(alias: str, now: datetime) -> Iterator[Finding]:
    """Each order has exactly one event for each of its versions, from 1 on."""
    for month in months_of(alias):
        rows = fetch(
            alias,
            "SELECT o.id, o.version, COALESCE(e.events, 0), COALESCE(e.highest, 0) "
            f"FROM {month.order} o LEFT JOIN (SELECT slot, order_id, COUNT(*) AS events, MAX(version) AS highest "
            f"FROM {month.event} GROUP BY slot, order_id) e ON e.slot = o.slot AND e.order_id = o.id "
            f"WHERE {_REAL} AND (o.version <> COALESCE(e.events, 0) OR o.version <> COALESCE(e.highest, 0)) "
            f"LIMIT {MAX_FINDINGS}",
        )
        for order_id, version, events, highest in rows:
            yield Finding(
                "versions",
                alias,
                f"order {order_id}",
                f"at version {version} with {events} events, the last of version {highest}",
            )


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
            f"WHERE status = 'pending_payment' AND expires_at < UTC_TIMESTAMP(6) LIMIT {MAX_FINDINGS}",
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
