"""When an order is complete: its shopper says so, or nobody has said otherwise for some days."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Q

from apps.orders.domain import FulfillmentStatus
from apps.orders.errors import OrderNotFound, OrderNotReceived
from apps.orders.fulfillment import UNDER_WAY, ShipmentStatus
from apps.orders.models import Order, Shipment
from apps.orders.selectors import order_items
from apps.orders.services.changing import change_order, own_order_locked
from apps.orders.services.shipping import existing_shipment, move_shipments
from apps.orders.shipment_selectors import shipments_of
from apps.orders.snapshots import order_view
from apps.orders.types import OrderView, SweepReport
from infra.followups.rounds import shard_round
from infra.sharding.monthly import existing_months
from infra.sharding.months import Month
from infra.sharding.places import Place

_log = logging.getLogger(__name__)

BATCH_SIZE: Final = 200
_DEADLINE_S: Final = 30.0
_RECEIVED: Final = frozenset({FulfillmentStatus.DELIVERED, FulfillmentStatus.RETURNED})


def confirm_receipt(*, user_id: int, order_id: int, now: datetime) -> OrderView:
    """Note that the shopper has all of an order that was shipped whole; it is complete then.

    Idempotent: an order that was received is returned as it is. Raises OrderNotFound, OrderNotReceived.
    Concurrency: decides under the lock of the order's row, so that it is one event, whatever comes at the same time.
    """
    with own_order_locked(user_id=user_id, order_id=order_id) as (place, order):
        received = order if order.fulfillment_status in _RECEIVED else _receive(place, order, now=now)
        return order_view(received, order_items(order_id))


def _receive(place: Place, order: Order, *, now: datetime) -> Order:
    if order.fulfillment_status != FulfillmentStatus.SHIPPED:
        raise OrderNotReceived("Not all of this order has been shipped.")
    under_way = {
        shipment.n: ShipmentStatus.DELIVERED for shipment in shipments_of(order.id) if shipment.status in UNDER_WAY
    }
    return move_shipments(place, order, under_way, actor="shopper", detail="received", now=now)


def complete_due_orders(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Count as delivered what has been under way for `ORDER_COMPLETION_DAYS`, on every shard; returns counts.

    The order is complete once that holds for all of it. By an index, in batches of `limit`, for a bounded time: what is
    left is found by the next run. Safe to run in several processes at once, and against track events: a shipment that
    has arrived meanwhile is left as it is.
    """
    counts: Counter[str] = Counter()
    stop_at = time.monotonic() + _DEADLINE_S
    before = now - timedelta(days=settings.ORDER_COMPLETION_DAYS)

    def sweep(alias: str) -> int:
        swept_count = 0
        for shipments in _long_under_way(alias, before=before, limit=limit):
            for shipment in shipments:
                if time.monotonic() > stop_at:
                    return swept_count
                counts[_complete(shipment.order_id, shipment.n, now=now)] += 1
                swept_count += 1
        return swept_count

    shard_round("completion of shipped orders", sweep)
    return SweepReport(dict(counts))


def _long_under_way(alias: str, *, before: datetime, limit: int) -> Iterator[Sequence[Shipment]]:
    """Yield batches by age; one that cannot be completed does not hold up those behind it."""
    for month in existing_months(alias):
        if month > Month.of(before):
            return
        for status in UNDER_WAY:
            aged = (
                Shipment.objects.in_month(alias, month)
                .filter(status=status, handed_over_at__lte=before)
                .order_by("handed_over_at", "order_id", "n")
            )
            rows = aged
            while True:
                batch = list(rows[:limit])
                if batch:
                    yield batch
                if len(batch) < limit:
                    break
                last = batch[-1]
                rows = aged.filter(
                    Q(handed_over_at__gt=last.handed_over_at)
                    | Q(handed_over_at=last.handed_over_at, order_id__gt=last.order_id)
                    | Q(handed_over_at=last.handed_over_at, order_id=last.order_id, n__gt=last.n)
                )


def _complete(order_id: int, n: int, *, now: datetime) -> str:
    """Count one shipment as delivered; returns what came of it."""

    def change(place: Place, order: Order) -> str:
        shipment = existing_shipment(order_id, n)
        if shipment.status not in UNDER_WAY:
            return "changed"
        moved = move_shipments(
            place,
            order,
            {n: ShipmentStatus.DELIVERED},
            actor="system",
            detail=f"{shipment.shipment_id}: nobody said otherwise for {settings.ORDER_COMPLETION_DAYS:g} days",
            now=now,
        )
        return "completed" if moved.fulfillment_status == FulfillmentStatus.DELIVERED else "delivered"

    try:
        return change_order(order_id, change)
    except OrderNotFound as error:
        _log.warning("shipment %d of order %d is not completed now: %s", n, order_id, error)
        return "put off"
