"""Reads of returns: what of an order can be sent back, and what has been."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from apps.orders.errors import ReturnNotFound
from apps.orders.fulfillment import OPEN_RETURNS, LineShare, ReturnStatus, ShipmentStatus
from apps.orders.models import Order, Return, ReturnLine
from apps.orders.selectors import get_order_row
from apps.orders.shipment_selectors import goods_of, shipments_of
from apps.orders.types import ReturnLineView, ReturnView
from infra.sharding.monthly import existing_months

_LEFT: Final = frozenset(ShipmentStatus) - {ShipmentStatus.PREPARED, ShipmentStatus.CANCELLED}


def returns_of(order_id: int) -> list[ReturnView]:
    """Return the returns of an order, oldest first."""
    rows = list(Return.objects.for_order(order_id).filter(order_id=order_id).order_by("n"))
    lines: dict[int, list[ReturnLineView]] = defaultdict(list)
    for line in ReturnLine.objects.for_order(order_id).filter(order_id=order_id).order_by("n", "line"):
        lines[line.n].append(
            ReturnLineView(line.line, line.sku, line.quantity, line.received_quantity, line.restocked_quantity)
        )
    return [
        ReturnView(
            order_id=row.order_id,
            n=row.n,
            status=ReturnStatus(row.status),
            reason=row.reason,
            note=row.note,
            refund_n=row.refund_n,
            items=tuple(lines[row.n]),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


def get_return(order_id: int, n: int) -> ReturnView | None:
    """Return one return, or None."""
    return next((each for each in returns_of(order_id) if each.n == n), None)


def own_returns(*, user_id: int, order_id: int) -> list[ReturnView]:
    """Return the returns of a shopper's order, oldest first; raises OrderNotFound."""
    return returns_of(get_order_row(user_id=user_id, order_id=order_id).id)


def own_return(*, user_id: int, order_id: int, n: int) -> ReturnView:
    """Return one return of a shopper's order; raises OrderNotFound, ReturnNotFound."""
    found = get_return(get_order_row(user_id=user_id, order_id=order_id).id, n)
    if found is None:
        raise ReturnNotFound("There is no such return.")
    return found


def returnable(order: Order, *, now: datetime) -> list[LineShare]:
    """Return the units by line that can be asked to be sent back.

    Those that have left, and arrived no longer ago than `ORDER_RETURN_DAYS`; less those of other returns, and no more
    than have not been refunded and are not asked to be. Read at the order's version, as `goods_of`.
    """
    since = now - timedelta(days=settings.ORDER_RETURN_DAYS)
    lately: Counter[int] = Counter()
    for shipment in shipments_of(order.id):
        if shipment.status in _LEFT and (shipment.delivered_at is None or shipment.delivered_at >= since):
            lately.update({share.line: share.units for share in shipment.items})
    announced: Counter[int] = Counter()
    received: Counter[int] = Counter()
    for each in returns_of(order.id):
        for item in each.items:
            if each.status in OPEN_RETURNS:
                announced[item.line] += item.quantity
            received[item.line] += item.received_quantity
    return [
        LineShare(
            line.line,
            line.sku,
            max(
                0,
                min(
                    lately[line.line] - received[line.line] - announced[line.line],
                    line.bought - line.withdrawn - announced[line.line],
                ),
            ),
        )
        for line in goods_of(order).units
    ]


def open_returns(alias: str, *, limit: int) -> list[tuple[int, int, ReturnStatus, datetime]]:
    """Return (order, n, status, since) of the returns of a shard that wait for the staff, at most `limit`."""
    found: list[tuple[int, int, ReturnStatus, datetime]] = []
    for month in existing_months(alias):
        for status in sorted(OPEN_RETURNS):
            rows = Return.objects.in_month(alias, month).filter(status=status).order_by("order_id", "n")
            found += [
                (order_id, n, ReturnStatus(status), at)
                for order_id, n, at in rows.values_list("order_id", "n", "updated_at")[: limit - len(found)]
            ]
            if len(found) >= limit:
                return found
    return found
