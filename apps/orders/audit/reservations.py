"""Reservations against orders: two databases without a common snapshot.

Both sides are summed up by slot in the server (count and checksum of the lines); only slots whose sums differ are read
row by row. What differs because it was read a moment apart is gone when it is read again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings

from apps.inventory import services as inventory
from apps.inventory.models import ReservationState
from apps.inventory.places import inventory_aliases
from apps.orders.audit.findings import CLOSED_STOCK_BOUND_S, HOLD_BOUND_S, Finding
from apps.orders.audit.reading import MAX_SLOTS_READ, MonthTables, fetch, months_of, utc
from apps.orders.domain import FulfillmentStatus, OrderStatus, StockTarget, stock_target
from apps.orders.models import OrderKind
from apps.orders.services.reaper import reap_stale_holds
from apps.orders.services.stock import return_stock_of
from apps.promotions.models import ClaimState
from infra.sharding.ids import first_id_at
from infra.sharding.months import Month
from infra.sharding.places import place_of_slot, shard_aliases

_OPEN_STATES: Final = frozenset({ReservationState.HELD, ReservationState.CONFIRMED})


def _checksum(returned: str) -> str:
    """Return the checksum of lines; `returned` is the column of the units that are back in stock."""
    return f"SUM(CRC32(CONCAT(order_id, ':', sku, ':', quantity, ':', {returned})))"


Sums = dict[tuple[int, bool], tuple[int, int]]
"""Count and checksum of lines by (slot, whether they are only held)."""
Lines = dict[str, tuple[int, int]]
"""Units of each SKU, and how many of them are back in stock."""


def _statuses(target: StockTarget) -> str:
    return ", ".join(f"'{status}'" for status in OrderStatus if stock_target(status) == target)


_HOLDING: Final = _statuses(StockTarget.HOLD)
_SETTLED: Final = (
    f"(o.status IN ({_statuses(StockTarget.SETTLE)}) OR "
    f"(o.status IN ({_statuses(StockTarget.RETURN)}) AND o.fulfillment_status <> '{FulfillmentStatus.NONE}'))"
)
_ORDER_ROW: Final = "o.id, o.kind, o.status, o.fulfillment_status, o.updated_at, l.sku, l.quantity, l.returned_quantity"
_CLAIM: Final = "SELECT 1 FROM promotions_claim c WHERE c.slot = o.slot AND c.order_id = o.id"
# Of orders that hold or have taken stock; imported ones never did. Flash orders hold a claim on their sale instead, and
# have a reservation, a settled one, once their units have left the stock.
_CONCERNED: Final = (
    f"o.kind = {OrderKind.REAL:d} AND o.source = '' AND "
    f"((o.status IN ({_HOLDING}) AND NOT EXISTS ({_CLAIM})) OR ({_SETTLED} AND o.id >= %s "
    f"AND NOT EXISTS ({_CLAIM} AND c.state <> {ClaimState.SETTLED:d})))"
)
_RESERVED: Final = (
    f"(state IN ({', '.join(str(int(state)) for state in sorted(_OPEN_STATES))}) "
    f"OR (state = {ReservationState.SETTLED:d} AND order_id >= %s))"
)


@dataclass(slots=True)
class _Reserved:
    """What one order has reserved: rows that are open or settled."""

    states: set[int] = field(default_factory=set)
    lines: Lines = field(default_factory=dict)
    updated_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return bool(self.states & _OPEN_STATES)


@dataclass(slots=True)
class _Ordered:
    """What one order row says."""

    kind: int
    status: str
    fulfillment_status: str
    updated_at: datetime | None
    lines: Lines = field(default_factory=dict)


def reservations_agree_with_orders(_: str, now: datetime) -> Iterator[Finding]:
    """Each open reservation has its open order and the reverse; what paid orders took was deducted."""
    # Settled reservations are cleared some time after the payment; younger orders must have theirs.
    floor = first_id_at(now - timedelta(days=settings.INVENTORY_SETTLED_RETENTION_DAYS - 1))
    ordered, reserved = _sums_of_orders(floor), _sums_of_reservations(floor)
    slots = sorted({slot for slot, held in ordered.keys() | reserved.keys() if _differ(ordered, reserved, slot, held)})
    found = [finding for slot in slots[:MAX_SLOTS_READ] for finding in _compare_slot(slot, floor)]
    yield from found
    if len(slots) > MAX_SLOTS_READ:
        # A wave of expiries is under way in all slots alike: the rest is excused as long as all that was read is.
        excused = all(finding.since is not None for finding in found)
        yield Finding(
            "reservations",
            "all",
            "further slots",
            f"{len(slots) - MAX_SLOTS_READ} more differ",
            since=min((finding.since for finding in found if finding.since is not None), default=now)
            if excused
            else None,
            bound_s=CLOSED_STOCK_BOUND_S,
        )


def _differ(ordered: Sums, reserved: Sums, slot: int, held: bool) -> bool:
    return ordered.get((slot, held)) != reserved.get((slot, held))


def _sums_of_orders(floor: int) -> Sums:
    return _added(
        row
        for alias in shard_aliases()
        for month in months_of(alias)
        for row in fetch(
            alias,
            f"SELECT o.slot, o.status IN ({_HOLDING}), COUNT(*), {_checksum('returned_quantity')} "
            f"FROM {month.order} o JOIN {month.line} l ON l.slot = o.slot AND l.order_id = o.id "
            f"WHERE {_CONCERNED} GROUP BY 1, 2",
            [floor],
        )
    )


def _sums_of_reservations(floor: int) -> Sums:
    return _added(
        row
        for alias in inventory_aliases()
        for row in fetch(
            alias,
            f"SELECT slot, state <> {ReservationState.SETTLED:d}, COUNT(*), {_checksum('returned')} "
            f"FROM inventory_reservation WHERE {_RESERVED} GROUP BY 1, 2",
            [floor],
        )
    )


def _added(rows: Iterable[tuple[int, int, int, int]]) -> Sums:
    sums: Sums = {}
    for slot, held, count, checksum in rows:
        known_count, known_checksum = sums.get((slot, bool(held)), (0, 0))
        sums[slot, bool(held)] = known_count + count, known_checksum + int(checksum)
    return sums


def _compare_slot(slot: int, floor: int) -> Iterator[Finding]:
    """Read a slot's rows, orders before reservations: an order that is seen has had its reservation before."""
    alias = place_of_slot(slot).alias
    ordered = _orders_in_slot(alias, slot, floor)
    reserved = _reservations_in_slot(slot, floor)
    ordered |= _orders_by_id(alias, slot, reserved.keys() - ordered.keys())
    for order_id in sorted(ordered.keys() | reserved.keys()):
        finding = _judge(alias, order_id, ordered.get(order_id), reserved.get(order_id))
        if finding is not None:
            yield finding


def _judge(alias: str, order_id: int, order: _Ordered | None, reserved: _Reserved | None) -> Finding | None:
    tell = partial(_finding, alias, order_id)
    if order is None or order.kind == OrderKind.VOID:
        if reserved is None:
            return None
        what = "no order" if order is None else "a void order"
        if not reserved.is_open:
            return tell(f"stock was deducted for {what}")
        mend = _reap if order is None else partial(_release, order_id)
        return tell(f"units are held for {what}", since=reserved.updated_at, bound_s=HOLD_BOUND_S, mend=mend)
    target = stock_target(OrderStatus(order.status), FulfillmentStatus(order.fulfillment_status))
    if target in (StockTarget.RELEASE, StockTarget.RETURN):
        return None if reserved is None else _late(tell, order_id, order, reserved)
    if reserved is None:
        return tell(f"{order.status}, and nothing is reserved or deducted for it")
    if not _may_become(reserved.lines, order.lines):
        return tell(f"{order.status}: its lines are {order.lines}, its reservation {reserved.lines}")
    if reserved.is_open != (target == StockTarget.HOLD) or reserved.lines != order.lines:
        return _late(tell, order_id, order, reserved)
    return None


def _may_become(reserved: Lines, ordered: Lines) -> bool:
    """Tell whether a reservation only has to follow its order: the same units, no more of them back in stock."""
    return reserved.keys() == ordered.keys() and all(
        units == ordered[sku][0] and returned <= ordered[sku][1] for sku, (units, returned) in reserved.items()
    )


def _late(tell: Callable[..., Finding], order_id: int, order: _Ordered, reserved: _Reserved) -> Finding:
    """A reservation that has yet to follow its order: soon by itself, or by the sync that the follow-up would do."""
    return tell(
        f"{order.status}, and its stock is still {'held' if reserved.is_open else 'deducted'}",
        since=order.updated_at,
        bound_s=CLOSED_STOCK_BOUND_S,
        mend=partial(_sync, order_id),
    )


def _finding(
    alias: str,
    order_id: int,
    detail: str,
    *,
    since: datetime | None = None,
    bound_s: float = 0.0,
    mend: Callable[[datetime], object] | None = None,
) -> Finding:
    return Finding("reservations", alias, f"order {order_id}", detail, since=since, bound_s=bound_s, mend=mend)


def _orders_in_slot(alias: str, slot: int, floor: int) -> dict[int, _Ordered]:
    orders: dict[int, _Ordered] = {}
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT {_ORDER_ROW} FROM {month.order} o "
            f"LEFT JOIN {month.line} l ON l.slot = o.slot AND l.order_id = o.id WHERE o.slot = %s AND {_CONCERNED}",
            [slot, floor],
        )
        for order_id, kind, status, fulfillment, updated_at, sku, *units in rows:
            order = orders.setdefault(order_id, _Ordered(kind, status, fulfillment, utc(updated_at)))
            if sku is not None:
                order.lines[sku] = units[0], units[1]
    return orders


def _orders_by_id(alias: str, slot: int, order_ids: Iterable[int]) -> dict[int, _Ordered]:
    """Read the rows under ids that have reservations, whatever they are by now."""
    by_month: dict[Month, list[int]] = defaultdict(list)
    for order_id in order_ids:
        by_month[Month.of_id(order_id)].append(order_id)
    tables: Mapping[Month, MonthTables] = {month.month: month for month in months_of(alias)}
    orders: dict[int, _Ordered] = {}
    for month, ids in by_month.items():
        if month not in tables:
            continue
        marks = ", ".join(["%s"] * len(ids))
        for order_id, kind, status, fulfillment, updated_at, sku, *units in fetch(
            alias,
            f"SELECT {_ORDER_ROW} FROM {tables[month].order} o "
            f"LEFT JOIN {tables[month].line} l ON l.slot = o.slot AND l.order_id = o.id "
            f"WHERE o.slot = %s AND o.id IN ({marks})",
            [slot, *ids],
        ):
            order = orders.setdefault(order_id, _Ordered(kind, status, fulfillment, utc(updated_at)))
            if sku is not None:
                order.lines[sku] = units[0], units[1]
    return orders


def _reservations_in_slot(slot: int, floor: int) -> dict[int, _Reserved]:
    reservations: dict[int, _Reserved] = defaultdict(_Reserved)
    for alias in inventory_aliases():
        for order_id, state, sku, quantity, returned, updated_at in fetch(
            alias,
            "SELECT order_id, state, sku, quantity, returned, updated_at FROM inventory_reservation "
            f"WHERE slot = %s AND {_RESERVED}",
            [slot, floor],
        ):
            reservation = reservations[order_id]
            reservation.states.add(state)
            reservation.lines[sku] = quantity, returned
            reservation.updated_at = utc(updated_at)
    return dict(reservations)


def _reap(now: datetime) -> None:
    reap_stale_holds(now=now)


def _release(order_id: int, now: datetime) -> None:
    inventory.release([order_id], now=now)


def _sync(order_id: int, now: datetime) -> None:
    return_stock_of([order_id], now=now)
