"""Shipments and returns against their orders: one shard has all rows of an order, so a statement is a snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings

from apps.inventory.places import inventory_aliases
from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch, sql_time, utc
from apps.orders.domain import FulfillmentStatus
from apps.orders.fulfillment import UNDER_WAY, ReturnStatus, ShipmentStatus, return_id, shipment_id
from apps.orders.models import OrderKind
from apps.orders.selectors import find_order
from apps.orders.services.returns import RESTOCK
from apps.orders.services.shipping import BOOKING, settle_fulfillment
from apps.orders.shipment_selectors import goods_of
from infra.followups.services import schedule
from infra.sharding.month_register import made_tables
from infra.sharding.months import Month
from infra.sharding.places import place_of_order

_TABLES: Final = (
    "orders_order",
    "orders_line",
    "orders_shipment",
    "orders_shipment_line",
    "orders_track",
    "orders_return",
    "orders_return_line",
    "payments_refund",
)
_CHUNK: Final = 500
# Past orders that were imported were shipped elsewhere and have no shipments here.
_OURS: Final = f"o.kind = {OrderKind.REAL:d} AND o.source = ''"
_LIVE: Final = f"p.status <> '{ShipmentStatus.CANCELLED}'"
_HAS_LEFT: Final = f"p.status NOT IN ('{ShipmentStatus.CANCELLED}', '{ShipmentStatus.PREPARED}')"
_IS_UNDER_WAY: Final = "p.status IN ({})".format(", ".join(f"'{status}'" for status in UNDER_WAY))


@dataclass(frozen=True, slots=True)
class _Month:
    """The names of the tables of one month's orders on a shard that shipping is about."""

    order: str
    line: str
    shipment: str
    shipment_line: str
    track: str
    back: str
    back_line: str
    refund: str


def _months(alias: str) -> list[_Month]:
    """Return the months of a shard that have all these tables, oldest first; older ones were shipped elsewhere."""
    by_month: dict[Month, set[str]] = {}
    for made in made_tables(alias):
        by_month.setdefault(made.month, set()).add(made.table)
    return [
        _Month(*(f"{table}_{month.suffix}" for table in _TABLES))
        for month, tables in sorted(by_month.items())
        if tables.issuperset(_TABLES)
    ]


def shipped_is_within_what_was_bought(alias: str, now: datetime) -> Iterator[Finding]:
    """No more units of a line are shipped than were bought, but for those that came back; none came back unshipped."""
    for month in _months(alias):
        rows = fetch(
            alias,
            "SELECT u.order_id, u.line, l.quantity, SUM(u.shipped), SUM(u.gone), SUM(u.received), "
            "SUM(u.sku <> l.sku) FROM ("
            "SELECT s.slot, s.order_id, s.line, s.sku, s.quantity AS shipped, "
            f"IF({_HAS_LEFT}, s.quantity, 0) AS gone, 0 AS received FROM {month.shipment_line} s "
            f"JOIN {month.shipment} p ON p.slot = s.slot AND p.order_id = s.order_id AND p.n = s.n AND {_LIVE} "
            "UNION ALL "
            f"SELECT slot, order_id, line, sku, 0, 0, received_quantity FROM {month.back_line}) u "
            f"LEFT JOIN {month.line} l ON l.slot = u.slot AND l.order_id = u.order_id AND l.line = u.line "
            "GROUP BY u.slot, u.order_id, u.line, l.quantity "
            "HAVING l.quantity IS NULL OR SUM(u.sku <> l.sku) > 0 OR SUM(u.shipped) > l.quantity + SUM(u.received) "
            f"OR SUM(u.received) > SUM(u.gone) LIMIT {MAX_FINDINGS}",
        )
        for order_id, line, bought, shipped, gone, received, other in rows:
            what = "which is of another SKU" if other else f"of which {bought or 0} were bought"
            yield Finding(
                "shipments",
                alias,
                f"order {order_id}, line {line}",
                f"{shipped} units in shipments, {gone} of them gone and {received} back, {what}",
            )


def shipments_have_their_order(alias: str, now: datetime) -> Iterator[Finding]:
    """All shipments, their lines and tracks, and all returns have what they belong to."""
    for month in _months(alias):
        for table in (month.shipment, month.back):
            for (order_id,) in fetch(
                alias,
                f"SELECT DISTINCT t.order_id FROM {table} t "
                f"LEFT JOIN {month.order} o ON o.slot = t.slot AND o.id = t.order_id AND o.kind = {OrderKind.REAL:d} "
                f"WHERE o.id IS NULL LIMIT {MAX_FINDINGS}",
            ):
                yield Finding("orphans", alias, f"order {order_id} in {table}", "rows of an order that is not there")
        for table, parent in (
            (month.shipment_line, month.shipment),
            (month.track, month.shipment),
            (month.back_line, month.back),
        ):
            for order_id, n in fetch(
                alias,
                f"SELECT DISTINCT t.order_id, t.n FROM {table} t "
                f"LEFT JOIN {parent} p ON p.slot = t.slot AND p.order_id = t.order_id AND p.n = t.n "
                f"WHERE p.n IS NULL LIMIT {MAX_FINDINGS}",
            ):
                yield Finding("orphans", alias, f"{n} of order {order_id} in {table}", f"has no row in {parent}")


def fulfillment_agrees_with_shipments(alias: str, now: datetime) -> Iterator[Finding]:
    """How far an order has come is what its shipments and returns say."""
    live, under_way = "COALESCE(s.live, 0)", "COALESCE(s.under_way, 0)"
    prepared, delivered = "COALESCE(s.prepared, 0)", "COALESCE(s.delivered, 0)"
    for month in _months(alias):
        rows = fetch(
            alias,
            f"SELECT o.id, o.fulfillment_status, {live}, {prepared}, {under_way}, {delivered} FROM {month.order} o "
            f"LEFT JOIN (SELECT p.slot, p.order_id, COUNT(*) AS live, SUM(p.status = '{ShipmentStatus.PREPARED}') "
            f"AS prepared, SUM({_IS_UNDER_WAY}) AS under_way, SUM(p.status = '{ShipmentStatus.DELIVERED}') "
            f"AS delivered FROM {month.shipment} p WHERE {_LIVE} GROUP BY p.slot, p.order_id) s "
            f"ON s.slot = o.slot AND s.order_id = o.id WHERE {_OURS} AND NOT CASE o.fulfillment_status "
            f"WHEN '{FulfillmentStatus.NONE}' THEN {live} = 0 "
            f"WHEN '{FulfillmentStatus.PARTIAL}' THEN {live} = 0 OR {prepared} > 0 "
            f"WHEN '{FulfillmentStatus.SHIPPED}' THEN {prepared} + {under_way} > 0 "
            f"ELSE {delivered} > 0 OR {under_way} > 0 END LIMIT {MAX_FINDINGS}",
        )
        for order_id, known, *counts in rows:
            yield from _judge(alias, order_id, known, counts)


def _judge(alias: str, order_id: int, known: str, counts: list[int]) -> Iterator[Finding]:
    """Tell of an order whose shipments are not what its state is usually made of, unless all of its rows explain it."""
    order = find_order(order_id)
    if order is None:
        return
    reached = goods_of(order).fulfillment(FulfillmentStatus.NONE)
    if order.fulfillment_status == known != reached:
        live, prepared, under_way, delivered = counts
        yield Finding(
            "shipments",
            alias,
            f"order {order_id}",
            f"{known}, and its goods are {reached}: of {live} shipments {prepared} are being packed, {under_way} "
            f"under way, {delivered} delivered",
            since=utc(order.updated_at),
            bound_s=BACKLOG_BOUND_S,
            mend=partial(_settle, order_id),
        )


def bookings_are_followed(alias: str, now: datetime) -> Iterator[Finding]:
    """Every shipment that a carrier has yet to be told of has its follow-up, without which nobody would tell it."""
    for month in _months(alias):
        for order_id, n, carrier in fetch(
            alias,
            f"SELECT p.order_id, p.n, p.carrier FROM {month.shipment} p LEFT JOIN followups_followup f "
            "ON f.slot = p.slot AND f.order_id = p.order_id AND f.kind = %s AND f.n = p.n "
            f"WHERE p.status = '{ShipmentStatus.PREPARED}' AND p.carrier <> '' AND p.number = '' "
            f"AND f.order_id IS NULL LIMIT {MAX_FINDINGS}",
            [BOOKING],
        ):
            yield Finding(
                "follow-ups",
                alias,
                shipment_id(order_id, n),
                f"not booked with {carrier}, and no {BOOKING} is owed",
                mend=partial(_owe, BOOKING, order_id, n),
            )


def returns_are_refunded_and_restocked(alias: str, now: datetime) -> Iterator[Finding]:
    """What a received return names as its refund is there, and its units are in stock or owed to it."""
    floor = sql_time(now - timedelta(days=settings.INVENTORY_MOVEMENT_RETENTION_DAYS - 1))
    for month in _months(alias):
        for order_id, n, refund_n in fetch(
            alias,
            f"SELECT b.order_id, b.n, b.refund_n FROM {month.back} b LEFT JOIN {month.refund} r "
            "ON r.slot = b.slot AND r.order_id = b.order_id AND r.n = b.refund_n "
            f"WHERE b.refund_n IS NOT NULL AND (r.n IS NULL OR b.status <> '{ReturnStatus.RECEIVED}') "
            f"LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("returns", alias, return_id(order_id, n), f"names refund {refund_n}, which is not there")
        back = fetch(
            alias,
            "SELECT l.order_id, l.n, l.sku, SUM(l.restocked_quantity), b.updated_at "
            f"FROM {month.back_line} l JOIN {month.back} b "
            "ON b.slot = l.slot AND b.order_id = l.order_id AND b.n = l.n "
            "LEFT JOIN followups_followup f "
            "ON f.slot = l.slot AND f.order_id = l.order_id AND f.kind = %s AND f.n = l.n "
            "WHERE l.restocked_quantity > 0 AND b.updated_at > %s AND f.order_id IS NULL "
            "GROUP BY l.slot, l.order_id, l.n, l.sku, b.updated_at",
            [RESTOCK, floor],
        )
        for start in range(0, len(back), _CHUNK):
            yield from _compare(alias, back[start : start + _CHUNK])


def _compare(alias: str, back: list[tuple[int, int, str, int, datetime]]) -> Iterator[Finding]:
    """Compare what returns brought with what came back into stock under their references."""
    references = sorted({return_id(order_id, n) for order_id, n, *_ in back})
    marks = ", ".join(["%s"] * len(references))
    known: dict[tuple[str, str], int] = {}
    for stock in inventory_aliases():
        sql = f"SELECT reference, sku, quantity FROM inventory_restocking WHERE reference IN ({marks})"
        known |= {(reference, sku): quantity for reference, sku, quantity in fetch(stock, sql, references)}
    for order_id, n, sku, units, received_at in back:
        there = known.get((return_id(order_id, n), sku), 0)
        if there != units:
            yield Finding(
                "returns",
                alias,
                f"{return_id(order_id, n)}, {sku}",
                f"{units} units were to go back into stock, {there} did, and nothing is owed",
                since=utc(received_at),
                bound_s=BACKLOG_BOUND_S,
                mend=partial(_owe, RESTOCK, order_id, n),
            )


def _settle(order_id: int, now: datetime) -> None:
    settle_fulfillment(order_id=order_id, now=now)


def _owe(kind: str, order_id: int, n: int, now: datetime) -> None:
    place = place_of_order(order_id)
    with place.atomic():
        schedule(place, kind=kind, order_id=order_id, n=n, due_at=now, now=now)
