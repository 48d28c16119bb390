"""Reads of orders: one, a shopper's list over the months, the staff's list over the shards."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from django.db import connections
from django.db.models import Exists, OuterRef, Q
from msgspec.structs import replace

from apps.orders.domain import OrderStatus
from apps.orders.errors import OrderNotFound
from apps.orders.models import Order, OrderEvent, OrderKind, OrderLine, PlacedAddress
from apps.orders.snapshots import as_placed, order_event_view, order_summary, order_view
from apps.orders.types import OrderEventView, OrderFilter, OrderSummary, OrderView
from apps.promotions.models import ClaimState
from apps.promotions.types import Sale
from apps.users.selectors import order_months
from infra.api.pagination import Page
from infra.sharding.ids import MAX_ID, first_id_at, slot_of, time_of
from infra.sharding.month_register import month_register
from infra.sharding.monthly import MonthlyQuerySet, existing_months, telling_month_errors
from infra.sharding.months import Month
from infra.sharding.places import Place, place_of_order, place_of_user, shard_aliases
from infra.sharding.slots import slot_of_user

# A list looks into so many months a request; a page may then be short or empty while there is more.
MAX_MONTHS_A_PAGE: Final = 12
# A search looks into so many of a shopper's orders a request, however few of them match.
MAX_ORDERS_SEARCHED: Final = 2000
# An unpaid order is looked for in the month before for so long; it expires long before.
_MONTH_OVERLAP: Final = timedelta(days=1)


class OrderState(NamedTuple):
    """Where what stands under an id is: an order or a tombstone."""

    kind: OrderKind
    status: str
    fulfillment_status: str


def find_order(order_id: int) -> Order | None:
    """Return the row of a real order, or None; reads inside the caller's transaction if one is open."""
    return Order.objects.for_order(order_id).filter(id=order_id, kind=OrderKind.REAL).first()


def get_order(*, user_id: int, order_id: int) -> OrderView:
    """Return the shopper's order; raises OrderNotFound for everybody else's too."""
    return _view(get_order_row(user_id=user_id, order_id=order_id))


def get_order_row(*, user_id: int, order_id: int) -> Order:
    """Return the row of the shopper's order; raises OrderNotFound.

    An id whose slot is not the shopper's is answered without asking a database.
    """
    order = find_order(order_id) if slot_of(order_id) == slot_of_user(user_id) else None
    if order is None or order.user_id != user_id:
        raise OrderNotFound("There is no such order.")
    return order


def get_placed_order(*, order_id: int) -> OrderView:
    """Return an order as its placing was answered; raises OrderNotFound."""
    order = find_order(order_id)
    if order is None:
        raise OrderNotFound("There is no such order.")
    placed = as_placed(_view(order))
    if order.version == 1:
        return placed
    first = PlacedAddress.objects.for_order(order_id).filter(order_id=order_id).first()
    return placed if first is None else replace(placed, address=first.address)


def order_events(*, user_id: int, order_id: int) -> list[OrderEventView]:
    """Return the steps of the shopper's order, oldest first; raises OrderNotFound."""
    return staff_events(get_order_row(user_id=user_id, order_id=order_id).id)


def staff_events(order_id: int) -> list[OrderEventView]:
    """Return the steps of anybody's order, oldest first."""
    events = OrderEvent.objects.for_order(order_id).filter(order_id=order_id).order_by("version")
    return [order_event_view(event) for event in events]


def order_items(order_id: int) -> list[OrderLine]:
    """Return the lines of an order, ascending."""
    return list(OrderLine.objects.for_order(order_id).filter(order_id=order_id).order_by("line"))


def open_unpaid_counts(alias: str, user_ids: Collection[int], *, now: datetime) -> dict[int, int]:
    """Return how many orders of each of these shoppers of a shard wait for their payment.

    Plain SQL, one statement for all: placing asks twice for every batch.
    """
    owners = " OR ".join([f"(slot={slot_of_user(user_id)} AND user_id={user_id:d})" for user_id in user_ids])
    counts = dict.fromkeys(user_ids, 0)
    this, before = Month.of(now), Month.of(now - _MONTH_OVERLAP)
    months = {this, before} if month_register.find(alias, Order.table, before) is not None else {this}
    for month in months:
        with telling_month_errors(table=Order.table, month=month, alias=alias), connections[alias].cursor() as cursor:
            cursor.execute(
                f"SELECT user_id, COUNT(*) FROM {Order.objects.table_for(month)} "  # noqa: S608 - numbers and constants
                f"FORCE INDEX (orders_order_user) WHERE ({owners}) AND status = '{OrderStatus.PENDING_PAYMENT}' "
                "GROUP BY user_id"
            )
            for user_id, count in cursor.fetchall():
                counts[user_id] += count
    return counts


def list_orders(*, user_id: int, narrowed: OrderFilter, limit: int, before_id: int | None = None) -> Page[OrderView]:
    """Return a page of a shopper's orders, newest first, over at most `MAX_MONTHS_A_PAGE` months.

    A text is looked for in at most `MAX_ORDERS_SEARCHED` orders. `before_id` is the key of the page before. A page may
    be short or empty while `next_key` is set.
    """
    place = place_of_user(user_id)
    lower_id, upper_id = id_range_of(narrowed, before_id)
    noted = order_months(user_id)
    if noted is None or lower_id >= upper_id:
        return Page(rows=[], next_key=None)
    first = max(Month.from_number(noted[0]), Month.of_id(lower_id))
    last = min(Month.from_number(noted[1]), Month.of_id(upper_id - 1))
    orders: list[OrderView] = []
    to_search = MAX_ORDERS_SEARCHED
    for month_count, month in enumerate(_months_backwards(place.alias, last, first)):
        if month_count == MAX_MONTHS_A_PAGE:
            return Page(rows=orders, next_key=[month.next().first_id])
        floor_id = lower_id
        if narrowed.text is not None:
            looked_at = _newest_ids(place, user_id, month, (lower_id, upper_id), limit=to_search)
            to_search -= len(looked_at)
            floor_id = looked_at[-1] if to_search == 0 else lower_id
        wanted = limit + 1 - len(orders)
        rows = list(_orders_of(place, user_id, month, narrowed, (floor_id, upper_id))[:wanted])
        orders += _views(place, month, rows)
        if len(orders) > limit:
            return Page(rows=orders[:limit], next_key=[orders[limit - 1].id])
        if to_search == 0:
            return Page(rows=orders, next_key=[floor_id])
    return Page(rows=orders, next_key=None)


def recent_orders(
    *,
    narrowed: OrderFilter,
    limit: int,
    user_id: int | None = None,
    before_id: int | None = None,
    aliases: Sequence[str] | None = None,
) -> Page[OrderSummary]:
    """Return orders of all shards (or of one shopper), newest first, for the staff.

    Bounded: at most `MAX_MONTHS_A_PAGE` months, and from each shard and month no more rows than the page has. The key
    of the next page is an id, as in `list_orders`. A shard that is down raises OperationalError; name the `aliases`
    of the others to go on without it.
    """
    lower_id, upper_id = id_range_of(narrowed, before_id)
    asked = tuple(shard_aliases() if aliases is None else aliases)
    if user_id is not None:
        asked = tuple(alias for alias in asked if alias == place_of_user(user_id).alias)
    made = sorted({month for alias in asked for month in existing_months(alias)}, reverse=True)
    months = [month for month in made if month.first_id < upper_id and month.next().first_id > lower_id]
    found: list[OrderSummary] = []
    for month_count, month in enumerate(months):
        if month_count == MAX_MONTHS_A_PAGE:
            return Page(rows=found, next_key=[month.next().first_id])
        rows: list[Order] = []
        for alias in asked:
            query = _narrow(Order.objects.in_month(alias, month), alias, month, narrowed, (lower_id, upper_id))
            if user_id is not None:
                query = query.filter(slot=slot_of_user(user_id), user_id=user_id)
            rows += query[: limit + 1]
        rows.sort(key=lambda order: order.id, reverse=True)
        found += [order_summary(order) for order in rows[: limit + 1 - len(found)]]
        if len(found) > limit:
            return Page(rows=found[:limit], next_key=[found[limit - 1].id])
    return Page(rows=found, next_key=None)


def refunded_in_sale(alias: str, sale: Sale) -> Decimal:
    """Return what was given back to the buyers of a sale on one shard, of orders whose units were paid for.

    Reads the order of each such claim by its key: for a report, not for a page that asks every few seconds.
    """
    total = Decimal(0)
    for month in _months_backwards(alias, Month.of(sale.ends_at).next(), Month.of(sale.starts_at)):
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT SUM(o.refunded_total) FROM promotions_claim c "  # noqa: S608 - the name of our table
                f"JOIN {Order.table}_{month.suffix} o ON o.slot = c.slot AND o.id = c.order_id "
                f"WHERE c.sale_id = %s AND c.state IN ({ClaimState.SETTLING:d}, {ClaimState.SETTLED:d})",
                [sale.id],
            )
            total += cursor.fetchone()[0] or 0
    return total


def count_orders(month: Month) -> int:
    """Return how many real orders of a month all shards hold."""
    return sum(
        Order.objects.in_month(alias, month).filter(kind=OrderKind.REAL).count()
        for alias in shard_aliases()
        if month in existing_months(alias)
    )


def find_summary(order_id: int) -> OrderSummary | None:
    """Return one order for the staff, by its number."""
    order = find_order(order_id)
    return None if order is None else order_summary(order)


def states_of(order_ids: Iterable[int]) -> dict[int, OrderState]:
    """Return kind and statuses of what stands under each id, on whatever shard; absent ids are absent.

    Plain SQL, one statement for each shard and month: sweeps ask for hundreds of orders of as many slots.
    """
    by_table: dict[tuple[str, Month], list[int]] = {}
    for order_id in order_ids:
        by_table.setdefault((place_of_order(order_id).alias, Month.of_id(order_id)), []).append(order_id)
    states: dict[int, OrderState] = {}
    for (alias, month), ids in by_table.items():
        if not Order.objects.can_exist(alias, month):
            continue
        keys = ",".join([f"({slot_of(order_id)},{order_id:d})" for order_id in ids])
        with telling_month_errors(table=Order.table, month=month, alias=alias), connections[alias].cursor() as cursor:
            cursor.execute(
                f"SELECT id, kind, status, fulfillment_status FROM {Order.objects.table_for(month)} "  # noqa: S608 - numbers and constants
                f"FORCE INDEX (PRIMARY) WHERE (slot, id) IN ({keys})"
            )
            states |= {
                order_id: OrderState(OrderKind(kind), status, fulfillment)
                for order_id, kind, status, fulfillment in cursor.fetchall()
            }
    return states


def _view(order: Order) -> OrderView:
    return order_view(order, order_items(order.id))


def _views(place: Place, month: Month, rows: Sequence[Order]) -> list[OrderView]:
    """Return the orders of one month with their lines, read in one statement."""
    if not rows:
        return []
    lines: dict[int, list[OrderLine]] = {order.id: [] for order in rows}
    for line in OrderLine.objects.at(place, month).filter(order_id__in=lines).order_by("order_id", "line"):
        lines[line.order_id].append(line)
    return [order_view(order, lines[order.id]) for order in rows]


def _newest_ids(place: Place, user_id: int, month: Month, id_range: tuple[int, int], *, limit: int) -> list[int]:
    """Return the newest ids of a shopper's orders in a month and a range, from the index alone."""
    lower_id, upper_id = id_range
    rows = Order.objects.at(place, month).filter(user_id=user_id, id__gte=lower_id, id__lt=upper_id)
    return list(rows.order_by("-id").values_list("id", flat=True)[:limit])


def _orders_of(
    place: Place, user_id: int, month: Month, narrowed: OrderFilter, id_range: tuple[int, int]
) -> MonthlyQuerySet[Order]:
    rows = Order.objects.at(place, month).filter(user_id=user_id)
    return _narrow(rows, place.alias, month, narrowed, id_range)


def _narrow(
    rows: MonthlyQuerySet[Order], alias: str, month: Month, narrowed: OrderFilter, id_range: tuple[int, int]
) -> MonthlyQuerySet[Order]:
    lower_id, upper_id = id_range
    rows = rows.filter(kind=OrderKind.REAL, id__gte=lower_id, id__lt=upper_id)
    if narrowed.status is not None:
        rows = rows.filter(status=narrowed.status)
    if narrowed.text is not None:
        lines = OrderLine.objects.in_month(alias, month).filter(slot=OuterRef("slot"), order_id=OuterRef("id"))
        in_lines = lines.filter(title__icontains=narrowed.text)
        matches: Q = Q(city__icontains=narrowed.text) | Q(Exists(in_lines))
        if narrowed.text.isascii() and narrowed.text.isdigit() and int(narrowed.text) <= MAX_ID:
            matches |= Q(id=int(narrowed.text))
        rows = rows.filter(matches)
    return rows.order_by("-id")


def id_range_of(narrowed: OrderFilter, before_id: int | None) -> tuple[int, int]:
    """Return the bounds of the ids asked for, lower inclusive and upper exclusive: an id tells its time."""
    lower = 0 if narrowed.placed_from is None else _first_id_placed_at(narrowed.placed_from)
    upper = MAX_ID if narrowed.placed_to is None else _first_id_placed_at(narrowed.placed_to)
    return lower, upper if before_id is None else min(upper, before_id)


def _first_id_placed_at(at: datetime) -> int:
    """Return the lowest id whose `placed_at`, a whole millisecond, is not before `at`."""
    at_or_before = first_id_at(at)
    placed_at = time_of(at_or_before)
    return at_or_before if placed_at >= at else first_id_at(placed_at + timedelta(milliseconds=1))


def _months_backwards(alias: str, last: Month, first: Month) -> Iterator[Month]:
    """Yield the months that were ever made on the shard; one that was not holds no orders and costs nothing."""
    month = last
    while month >= first:
        if month_register.find(alias, Order.table, month) is not None:
            yield month
        month = month.previous()
