"""The staff's list of orders: newest first over all shards, narrowed by what no index serves, and yet bounded.

Each shard is read backwards by the index on the id, in windows: of so many rows at a time, those that match are kept. A
page ends when it is full or its time is up, and says how far it has looked, so that rare orders take more pages, and no
page takes longer because there are more orders.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.db import OperationalError, connections

from apps.orders.domain import OrderStatus, round_money
from apps.orders.models import Order, OrderKind
from apps.orders.selectors import id_range_of
from apps.orders.types import OrderFilter, OrderSummary
from infra.sharding.ids import slot_of, time_of
from infra.sharding.monthly import existing_months, telling_month_errors
from infra.sharding.months import Month
from infra.sharding.places import place_of_order, place_of_user, shard_aliases
from infra.sharding.slots import slot_of_user

WINDOW_ROWS: Final = 4000
TIME_BUDGET_S: Final = 0.2
_COLUMNS: Final = (
    "id, user_id, status, payment_status, fulfillment_status, currency, total, city, country, updated_at, version"
)


@dataclass(frozen=True, slots=True)
class StaffFilter:
    """What the list is narrowed to; `placed_to` is exclusive, `total_from` in whatever currency the order has."""

    status: str = ""
    payment_status: str = ""
    country: str = ""
    currency: str = ""
    total_from: Decimal | None = None
    user_id: int | None = None
    placed_from: datetime | None = None
    placed_to: datetime | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for anything but times."""
        return any(getattr(self, each.name) for each in fields(self) if not each.name.startswith("placed_"))


@dataclass(frozen=True, slots=True)
class ListedOrders:
    """A page: rows, where the next one goes on (None at the end), which shards gave no answer.

    `is_cut` tells that time was up before the page was full.
    """

    rows: Sequence[OrderSummary]
    next_before: int | None
    unreachable: Sequence[str]
    is_cut: bool


@dataclass(slots=True)
class _Walk:
    """How far one shard has been read: what matched, and the lowest id that was looked at (None once all was)."""

    rows: list[OrderSummary]
    frontier: int | None
    is_cut: bool = False


def list_for_staff(
    narrowed: StaffFilter, *, limit: int, before_id: int | None = None, budget_s: float = TIME_BUDGET_S
) -> ListedOrders:
    """Return a page of orders, newest first. A shard that gives no answer costs its own rows only."""
    aliases = tuple(shard_aliases())
    if narrowed.user_id is not None:
        aliases = (place_of_user(narrowed.user_id).alias,)
    walks: list[_Walk] = []
    unreachable: list[str] = []
    for alias in aliases:
        try:
            walks.append(_walk(alias, narrowed, limit=limit, before_id=before_id, budget_s=budget_s / len(aliases)))
        except OperationalError:
            unreachable.append(alias)
    # Below the highest frontier a shard may still have orders that were not looked at: they come first.
    cut = max((walk.frontier for walk in walks if walk.frontier is not None), default=None)
    rows = sorted((row for walk in walks for row in walk.rows), key=lambda row: row.id, reverse=True)
    ready = [row for row in rows if cut is None or row.id >= cut]
    page = ready[:limit]
    next_before = page[-1].id if len(ready) > limit else cut
    is_cut = len(page) < limit and any(walk.is_cut for walk in walks)
    return ListedOrders(page, next_before, unreachable, is_cut)


def _walk(alias: str, narrowed: StaffFilter, *, limit: int, before_id: int | None, budget_s: float) -> _Walk:
    """Read one shard backwards until there are more rows than a page has, nothing is left, or time is up."""
    lower, upper = id_range_of(OrderFilter(placed_from=narrowed.placed_from, placed_to=narrowed.placed_to), before_id)
    walk = _Walk(rows=[], frontier=upper)
    ends_at = time.monotonic() + budget_s
    for month, low, high in _windows(alias, narrowed, lower, upper):
        walk.rows += _matching(alias, month, narrowed, low=low, high=high, limit=limit + 1 - len(walk.rows))
        if len(walk.rows) > limit:
            walk.frontier = walk.rows[-1].id
            return walk
        walk.frontier = low
        if time.monotonic() > ends_at:
            walk.is_cut = True
            return walk
    walk.frontier = None
    return walk


def _windows(alias: str, narrowed: StaffFilter, lower: int, upper: int) -> Iterator[tuple[Month, int, int]]:
    """Yield (month, lowest id, id above) backwards, each with at most WINDOW_ROWS orders where rows are filtered."""
    for month in sorted(existing_months(alias), reverse=True):
        low, high = max(month.first_id, lower), min(month.next().first_id, upper)
        while low < high:
            begin = _window_begin(alias, month, low, high) if narrowed.is_narrow and narrowed.user_id is None else low
            yield month, begin, high
            high = begin


def _window_begin(alias: str, month: Month, low: int, high: int) -> int:
    """Return the id above which there are WINDOW_ROWS rows below `high`, or `low` where there are fewer."""
    table = Order.objects.table_for(month)
    with telling_month_errors(table=Order.table, month=month, alias=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {table} FORCE INDEX (orders_order_newest) WHERE id >= %s AND id < %s "  # noqa: S608 - our table
            "ORDER BY id DESC LIMIT 1 OFFSET %s",
            [low, high, WINDOW_ROWS - 1],
        )
        found = cursor.fetchone()
    return low if found is None else int(found[0])


def _conditions(narrowed: StaffFilter) -> tuple[str, list[Any]]:
    words: Mapping[str, str] = {
        "status": narrowed.status,
        "payment_status": narrowed.payment_status,
        "country": narrowed.country,
        "currency": narrowed.currency,
    }
    parts: list[str] = []
    parameters: list[Any] = []
    for column, value in words.items():
        if value:
            parts.append(f" AND {column} = %s")
            parameters.append(value)
    if narrowed.total_from is not None:
        parts.append(" AND total >= %s")
        parameters.append(narrowed.total_from)
    return "".join(parts), parameters


def _matching(
    alias: str, month: Month, narrowed: StaffFilter, *, low: int, high: int, limit: int
) -> list[OrderSummary]:
    conditions, parameters = _conditions(narrowed)
    table = Order.objects.table_for(month)
    owner, index = "", "orders_order_newest"
    if narrowed.user_id is not None:
        owner = f" AND slot = {slot_of_user(narrowed.user_id):d} AND user_id = {narrowed.user_id:d}"
        index = "orders_order_user"
    with telling_month_errors(table=Order.table, month=month, alias=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM {table} FORCE INDEX ({index}) "  # noqa: S608 - constants and numbers
            f"WHERE id >= %s AND id < %s AND kind = {OrderKind.REAL:d}{owner}{conditions} ORDER BY id DESC LIMIT %s",
            [low, high, *parameters, limit],
        )
        return [_summary(row) for row in cursor.fetchall()]


def _summary(row: tuple[Any, ...]) -> OrderSummary:
    order_id, user_id, status, payment_status, fulfillment_status, currency, total, city, country, updated_at, n = row
    return OrderSummary(
        id=order_id,
        user_id=user_id,
        status=OrderStatus(status),
        payment_status=payment_status,
        fulfillment_status=fulfillment_status,
        currency=currency,
        total=round_money(total, currency),
        city=city,
        country=country,
        placed_at=time_of(order_id),
        updated_at=updated_at.replace(tzinfo=UTC),
        version=n,
    )


def summaries_of(order_ids: Sequence[int]) -> list[OrderSummary]:
    """Return the orders of these numbers that exist, in their order; one read for each shard and month."""
    by_table: dict[tuple[str, Month], list[int]] = {}
    for order_id in order_ids:
        alias = place_of_order(order_id).alias
        if Order.objects.can_exist(alias, Month.of_id(order_id)):
            by_table.setdefault((alias, Month.of_id(order_id)), []).append(order_id)
    found: dict[int, OrderSummary] = {}
    for (alias, month), ids in by_table.items():
        keys = " OR ".join([f"(slot = {slot_of(order_id):d} AND id = {order_id:d})" for order_id in ids])
        table = Order.objects.table_for(month)
        with telling_month_errors(table=Order.table, month=month, alias=alias), connections[alias].cursor() as cursor:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM {table} FORCE INDEX (PRIMARY) "  # noqa: S608 - constants and numbers
                f"WHERE ({keys}) AND kind = {OrderKind.REAL:d}"
            )
            found |= {row[0]: _summary(row) for row in cursor.fetchall()}
    return [found[order_id] for order_id in order_ids if order_id in found]
