"""Loads past orders by the million, for whatever has to stay quick beside them (the staff's pages).

Each month's first orders are written one by one; the rest are copies of them that the server makes, moved in time
within the month, since that takes a tenth of the time. An id tells its month and slot, so moving an order is adding to
its id. What was loaded carries a source, as imported orders do: it asks nothing of stock or payments.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import connections, models

from apps.orders.domain import Closure, FulfillmentStatus, PaymentStatus, line_total, status_of, totals_of
from apps.orders.events import IMPORTED
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.users.errors import RefusedInProduction
from apps.users.services import note_order_months
from bench.scenario import Buyer
from infra.sharding.bootstrap import make_months
from infra.sharding.ids import IMPORT_WORKER, IdParts, compose, ms_of, slot_of, time_of
from infra.sharding.monthly import MonthlyModel
from infra.sharding.months import Month
from infra.sharding.places import place_of_slot, place_of_user, shard_aliases, shard_atomic
from infra.sharding.slots import SLOT_COUNT, slot_of_user

SOURCE: Final = "volume"
MONTHS: Final = 12
# Each pass doubles a month; its first orders lie in the first of 2 ** _PASSES parts of it.
_PASSES: Final = 6
_SLOTS_A_TRANSACTION: Final = 64
_CURRENCY: Final = "GBP"
_CITIES: Final = ("London", "Leeds", "Bristol", "Cardiff", "Glasgow", "Belfast")

_Facts = tuple[PaymentStatus, FulfillmentStatus, Closure]
_FATES: Final[dict[_Facts, int]] = {
    (PaymentStatus.PAID, FulfillmentStatus.DELIVERED, Closure.OPEN): 78,
    (PaymentStatus.PAID, FulfillmentStatus.SHIPPED, Closure.OPEN): 4,
    (PaymentStatus.PAID, FulfillmentStatus.NONE, Closure.OPEN): 3,
    (PaymentStatus.UNPAID, FulfillmentStatus.NONE, Closure.CANCELLED): 7,
    (PaymentStatus.UNPAID, FulfillmentStatus.NONE, Closure.EXPIRED): 5,
    (PaymentStatus.REFUNDED, FulfillmentStatus.NONE, Closure.OPEN): 3,
}


def load_past_orders(count: int, *, buyers: Sequence[Buyer], skus: Sequence[str], before: Month) -> int:
    """Fill the `MONTHS` months before a month with at least `count` orders over all shards; return how many there are.

    Resumable: what a run that was killed had committed is passed over. The same count gives the same orders but for
    their buyers. Raises RefusedInProduction, and SystemExit where orders of another count are there.
    """
    if settings.IS_PRODUCTION:
        raise RefusedInProduction("Made-up orders are not loaded under production settings.")
    users: dict[str, list[int]] = defaultdict(list)
    for buyer in buyers:
        users[place_of_user(int(buyer.user_id)).alias].append(int(buyer.user_id))
    first_orders = -(-count // (MONTHS * len(shard_aliases()) * 2**_PASSES))
    month, loaded = before, 0
    for _ in range(MONTHS):
        month = month.previous()
        make_months(month, forecast=2 * count // MONTHS)
        for alias in shard_aliases():
            shelf = _Shelf(alias, month)
            shelf.write_first(users[alias], skus, count=first_orders)
            for number in range(_PASSES):
                shelf.double(number)
            loaded += shelf.count()
    wanted = first_orders * 2**_PASSES * MONTHS * len(shard_aliases())
    if loaded != wanted:
        raise SystemExit(f"{loaded} orders instead of {wanted} are loaded; `make reset` before you load another number")
    return loaded


class _Shelf:
    """One month of one shard."""

    def __init__(self, alias: str, month: Month) -> None:
        self._alias = alias
        self._month = month
        self._begin_ms = ms_of(month.starts_at)
        # Of the part of the month in which its first orders lie.
        self._part_ms = (ms_of(month.ends_at) - self._begin_ms) // 2**_PASSES
        self._chance = random.Random(f"{alias} {month}")
        self._orders = Order.objects.model_for(month, alias=alias)
        self._lines = OrderLine.objects.model_for(month, alias=alias)
        self._events = OrderEvent.objects.model_for(month, alias=alias)

    def write_first(self, users: Sequence[int], skus: Sequence[str], *, count: int) -> None:
        """Write the orders of which all others are copies, in one transaction; nothing if they are there."""
        if self._are_loaded(range(SLOT_COUNT), self._begin_ms, self._part_ms):
            return
        orders, lines, events = [], [], []
        for n in range(count):
            user_id = self._chance.choice(users)
            order_id = compose(
                IdParts(
                    at_ms=self._begin_ms + n * self._part_ms // count,
                    slot=slot_of_user(user_id),
                    worker=IMPORT_WORKER,
                    sequence=0,
                )
            )
            own_lines = [
                self._line(order_id, number, sku)
                for number, sku in enumerate(self._chance.sample(skus, self._chance.choice((1, 1, 2, 3, 4))), start=1)
            ]
            lines += own_lines
            orders.append(self._order(order_id, user_id, own_lines))
            events.append(
                self._events(
                    slot=slot_of(order_id),
                    order_id=order_id,
                    version=1,
                    kind=IMPORTED,
                    at=time_of(order_id),
                    actor="import",
                )
            )
        with shard_atomic(self._alias, {order.slot for order in orders}):
            for model, rows in ((self._orders, orders), (self._lines, lines), (self._events, events)):
                model.rows.using(self._alias).bulk_create(rows, batch_size=1000)
            note_order_months(self._alias, [order.user_id for order in orders], self._month)

    def double(self, number: int) -> None:
        """Copy all that the passes before this one have made to the time right after it, some slots a transaction."""
        length_ms = self._part_ms << number
        for first in range(0, SLOT_COUNT, _SLOTS_A_TRANSACTION):
            numbers = range(first, first + _SLOTS_A_TRANSACTION)
            slots = [slot for slot in numbers if place_of_slot(slot).alias == self._alias]
            if not slots or self._are_loaded(slots, self._begin_ms + length_ms, length_ms):
                continue
            with shard_atomic(self._alias, slots):
                for model in (self._orders, self._lines, self._events):
                    self._copy(model, slots, length_ms)

    def count(self) -> int:
        """Return how many orders are loaded."""
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                f"SELECT COUNT(*) FROM {self._orders._meta.db_table} WHERE {_LOADED.format(key='id')}",
                _bounds(range(SLOT_COUNT), self._begin_ms, self._part_ms << _PASSES),
            )
            return int(cursor.fetchone()[0])

    def _line(self, order_id: int, number: int, sku: str) -> OrderLine:
        quantity, price = self._chance.randint(1, 12), Decimal(self._chance.randint(20, 5000)) / 100
        return self._lines(
            slot=slot_of(order_id),
            order_id=order_id,
            line=number,
            sku=sku,
            title=f"Past {sku}",
            quantity=quantity,
            unit_price=price,
            line_total=line_total(unit_price=price, quantity=quantity, currency=_CURRENCY),
        )

    def _order(self, order_id: int, user_id: int, lines: Sequence[OrderLine]) -> Order:
        [(payment_status, fulfillment_status, closed_as)] = self._chance.choices(list(_FATES), list(_FATES.values()))
        totals = totals_of([line.line_total for line in lines], currency=_CURRENCY)
        city, placed_at = self._chance.choice(_CITIES), time_of(order_id)
        was_refunded = payment_status == PaymentStatus.REFUNDED
        for line in lines:
            line.refunded_quantity = line.quantity if was_refunded else 0
        return self._orders(
            slot=slot_of(order_id),
            id=order_id,
            user_id=user_id,
            payment_status=payment_status,
            fulfillment_status=fulfillment_status,
            closed_as=closed_as,
            status=status_of(
                payment_status=payment_status,
                fulfillment_status=fulfillment_status,
                closed_as=closed_as,
                refunding=False,
            ),
            currency=_CURRENCY,
            subtotal=totals.subtotal,
            total=totals.total,
            refunded_total=totals.total if was_refunded else 0,
            address={"name": "Past Buyer", "line1": f"{self._chance.randint(1, 999)} Long Street", "city": city},
            city=city,
            country="GB",
            source=SOURCE,
            source_number=str(order_id),
            paid_at=None if payment_status == PaymentStatus.UNPAID else placed_at + timedelta(minutes=2),
            updated_at=placed_at + timedelta(minutes=5),
        )

    def _are_loaded(self, slots: Sequence[int], from_ms: int, length_ms: int) -> bool:
        """Tell whether these slots have orders that were loaded for some time of the month."""
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                f"SELECT 1 FROM {self._orders._meta.db_table} WHERE {_LOADED.format(key='id')} LIMIT 1",
                _bounds(slots, from_ms, length_ms),
            )
            return cursor.fetchone() is not None

    def _copy(self, model: type[MonthlyModel], slots: Sequence[int], length_ms: int) -> None:
        """Copy rows of the time between the month's begin and `length_ms` later to that much later."""
        fields = model._meta.concrete_fields
        key = "id" if model is self._orders else "order_id"
        columns = ", ".join(f"`{field.column}`" for field in fields)
        moved = ", ".join(_moved(field, key, length_ms) for field in fields)
        table = model._meta.db_table
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({columns}) SELECT {moved} FROM {table} WHERE {_LOADED.format(key=key)}",
                _bounds(slots, self._begin_ms, length_ms),
            )


# Ids of loaded orders carry the number that no worker has. A range of slots may hold another shard's: none is here.
_LOADED: Final = (
    f"slot BETWEEN %s AND %s AND `{{key}}` >= %s AND `{{key}}` < %s AND (`{{key}}` >> 2) & 1023 = {IMPORT_WORKER}"
)


def _bounds(slots: Sequence[int], from_ms: int, length_ms: int) -> list[int]:
    return [slots[0], slots[-1], _first_id(from_ms), _first_id(from_ms + length_ms)]


def _moved(field: "models.Field[Any, Any]", key: str, by_ms: int) -> str:
    """Return a column as the copy has it."""
    if field.column == key:
        return f"`{key}` + {_first_id(by_ms)}"
    if isinstance(field, models.DateTimeField):
        return f"`{field.column}` + INTERVAL {by_ms * 1000} MICROSECOND"
    return f"`{field.column}`"


def _first_id(ms: int) -> int:
    return compose(IdParts(at_ms=ms, slot=0, worker=0, sequence=0))
