"""Writes past orders in bulk: to their true months, on their users' shards, each once whatever was killed or repeated.

An order's id is derived from its source and number, so the primary key is what makes it unique; the row's `source` and
`source_number` tell a repeat from a collision. Nothing of this touches stock, and no domain event is appended: the
orders begin at version 1 with one order event.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from apps.orders.domain import status_of
from apps.orders.events import IMPORTED
from apps.orders.importing.classify import CURRENCY, PastOrder
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.orders.services.recording import (
    EVENT_COLUMNS,
    LINE_COLUMNS,
    column_time,
    insert_rows,
)
from apps.users.services import import_customers, note_order_months
from apps.users.types import CustomerSource
from infra.sharding.bootstrap import make_months
from infra.sharding.ids import imported_id, slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_user, shard_atomic
from infra.sharding.slots import slot_of_user

# Past months get no new orders: their tables are sized by what is in the file, times some room.
_MONTH_FORECAST: Final = 100_000
_ORDERS_A_TRANSACTION: Final = 250
_ROWS_A_STATEMENT: Final = 1000
_MAX_ATTEMPTS: Final = 64

T = TypeVar("T")

_ORDER_COLUMNS: Final = (
    "slot", "id", "user_id", "kind", "version", "payment_status", "fulfillment_status", "closed_as", "refunding",
    "status", "currency", "subtotal", "discount", "points_used", "points_value", "shipping_fee", "total",
    "refunded_total", "city", "country", "coupons", "note", "cancel_reason", "request_digest", "source",
    "source_number", "paid_at", "updated_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Placed:
    """A past order with the ids that it gets."""

    order: PastOrder
    user_id: int
    id: int


def load_customers(orders: Sequence[PastOrder], *, source: str, now: datetime) -> dict[str, int]:
    """Make the users of the orders that do not exist yet; return the user id of each customer number.

    A customer is known since the first of these orders.
    """
    first: dict[str, PastOrder] = {}
    for order in orders:
        known = first.get(order.customer)
        if known is None or (order.placed_at, order.number) < (known.placed_at, known.number):
            first[order.customer] = order
    ids = import_customers(
        (
            CustomerSource(source=source, number=number, at=order.placed_at, country=order.country)
            for number, order in first.items()
        ),
        now=now,
    )
    return {number: user_id for (_, number), user_id in ids.items()}


def load_orders(
    orders: Sequence[PastOrder],
    *,
    source: str,
    users: Mapping[str, int],
    now: datetime,
    progress: Callable[[int], object],
) -> int:
    """Write the orders that are not there yet and return how many; `progress` is called with each batch's size.

    Makes the months that are missing. Each batch is one transaction with its lines and order events, so a run that is
    killed leaves whole orders, and the next one goes on.
    """
    by_month: dict[tuple[Month, str], list[PastOrder]] = defaultdict(list)
    for order in orders:
        by_month[Month.of(order.placed_at), place_of_user(users[order.customer]).alias].append(order)
    for month in sorted({month for month, _ in by_month}):
        make_months(month, forecast=_MONTH_FORECAST)
    written = 0
    for month, alias in sorted(by_month):
        for batch in _batches(by_month[month, alias], _ORDERS_A_TRANSACTION):
            slots = {slot_of_user(users[order.customer]) for order in batch}
            with shard_atomic(alias, slots):
                new = _without_present(alias, month, batch, source=source, users=users)
                _insert(alias, month, new, source=source, now=now)
            written += len(new)
            progress(len(batch))
    return written


def _without_present(
    alias: str, month: Month, batch: Sequence[PastOrder], *, source: str, users: Mapping[str, int]
) -> list[_Placed]:
    """Return the orders that are not in the month's table yet, each with a free id.

    An id that another order has is passed over for that of the next attempt; the same ones in every run.
    """
    chosen: dict[int, _Placed] = {}
    open_orders, attempt = list(batch), 0
    while open_orders:
        if attempt == _MAX_ATTEMPTS:
            raise ValueError(f"No free id was found for {len(open_orders)} orders of {source}.")
        candidates = [_placed(order, users[order.customer], source, attempt) for order in open_orders]
        present = _numbers_by_id(alias, month, [candidate.id for candidate in candidates])
        open_orders = []
        for candidate in candidates:
            if candidate.id in chosen or present.get(candidate.id, (source, candidate.order.number)) != (
                source,
                candidate.order.number,
            ):
                open_orders.append(candidate.order)
            elif candidate.id not in present:
                chosen[candidate.id] = candidate
        attempt += 1
    return list(chosen.values())


def _placed(order: PastOrder, user_id: int, source: str, attempt: int) -> _Placed:
    order_id = imported_id(
        slot=slot_of_user(user_id), at=order.placed_at, source=source, number=order.number, attempt=attempt
    )
    return _Placed(order, user_id, order_id)


def _numbers_by_id(alias: str, month: Month, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    rows = Order.objects.in_month(alias, month).filter(slot__in={slot_of(id_) for id_ in ids}, id__in=ids)
    return {id_: (source, number) for id_, source, number in rows.values_list("id", "source", "source_number")}


def _insert(alias: str, month: Month, placed: Sequence[_Placed], *, source: str, now: datetime) -> None:
    at = column_time(now)
    rows = [_order_row(member, source, at) for member in placed]
    lines = [row for member in placed for row in _line_rows(member)]
    events = [
        (slot_of(member.id), member.id, 1, IMPORTED, at, "import", f"{source} {member.order.number}")
        for member in placed
    ]
    for model, columns, all_rows in (
        (Order, _ORDER_COLUMNS, rows),
        (OrderLine, LINE_COLUMNS, lines),
        (OrderEvent, EVENT_COLUMNS, events),
    ):
        for some in _batches(all_rows, _ROWS_A_STATEMENT):
            insert_rows(alias, model, month, columns, some)
    note_order_months(alias, [member.user_id for member in placed], month)


def _order_row(placed: _Placed, source: str, at: datetime) -> tuple[object, ...]:
    order = placed.order
    status = status_of(
        payment_status=order.payment_status,
        fulfillment_status=order.fulfillment_status,
        closed_as=order.closed_as,
        refunding=False,
    )
    was_paid = order.payment_status == "paid"
    return (
        slot_of(placed.id), placed.id, placed.user_id, 0, 1, order.payment_status, order.fulfillment_status,
        order.closed_as, 0, status, CURRENCY, order.total, 0, 0, 0, 0, order.total, 0, "", order.country, "", "", "",
        b"", source, order.number, column_time(order.placed_at) if was_paid else None, at,
    )  # fmt: skip


def _line_rows(placed: _Placed) -> Iterator[tuple[object, ...]]:
    slot = slot_of(placed.id)
    for number, line in enumerate(placed.order.lines, start=1):
        yield (
            slot, placed.id, number, line.sku, line.title, line.quantity, line.unit_price, line.line_total, 0,
        )  # fmt: skip


def _batches(rows: Sequence[T], size: int) -> Iterator[list[T]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch
