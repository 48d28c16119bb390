"""Cancelling an order, by its shopper or by the staff."""

from datetime import datetime

from apps.orders.domain import Closure, OrderStatus, PaymentStatus
from apps.orders.errors import OrderMovedOn, OrderNotCancellable, OrderNotFound
from apps.orders.events import CANCELLED, REFUNDING
from apps.orders.locks import lock_order
from apps.orders.models import Order
from apps.orders.selectors import order_items
from apps.orders.services.free_orders import owe_settling
from apps.orders.services.refunds import unrefunded_items
from apps.orders.services.stock import owe_stock_change
from apps.orders.services.transitions import advance
from apps.orders.snapshots import order_view
from apps.orders.types import OrderView
from apps.payments.services import cancel_open_attempts, refund_order
from infra.sharding.places import Place, place_of_order, place_of_user

_ALREADY = frozenset({OrderStatus.CANCELLED, OrderStatus.REFUNDING, OrderStatus.REFUNDED})


def cancel_order(*, user_id: int, order_id: int, reason: str, now: datetime) -> OrderView:
    """Cancel an order: an unpaid one ends, a paid one is refunded; what it holds of the stock comes back.

    Idempotent: a cancelled order is returned as it is. Raises OrderNotFound, and OrderNotCancellable from `fulfilling`
    on or when the order has expired.
    Concurrency: decides under the lock of the order's row, so a payment comes either before it (and is refunded) or
    after it (and is refunded as unexpected).
    """
    place = place_of_user(user_id)
    if place.slot != place_of_order(order_id).slot:
        raise OrderNotFound("There is no such order.")
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None or order.user_id != user_id:
            raise OrderNotFound("There is no such order.")
        cancelled = _cancel(place, order, reason=reason, actor="shopper", now=now)
        return order_view(cancelled, order_items(order_id))


def cancel_order_as_staff(
    *, order_id: int, reason: str, actor: str, now: datetime, version: int | None = None
) -> OrderView:
    """Cancel any shopper's order; see `cancel_order`. `actor` names the member of staff.

    Raises OrderMovedOn too, where the decision was made on another `version` of the order.
    """
    place = place_of_order(order_id)
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None:
            raise OrderNotFound("There is no such order.")
        if version is not None and order.version != version:
            raise OrderMovedOn("The order has changed meanwhile.")
        cancelled = _cancel(place, order, reason=reason, actor=actor, now=now)
        return order_view(cancelled, order_items(order_id))


def _cancel(place: Place, order: Order, *, reason: str, actor: str, now: datetime) -> Order:
    """Make the transition that cancelling is in the order's state; the row is locked."""
    status = OrderStatus(order.status)
    if status in _ALREADY:
        return order
    if status == OrderStatus.PENDING_PAYMENT:
        cancelled = advance(
            place,
            order,
            changes={
                "closed_as": Closure.CANCELLED,
                "payment_status": PaymentStatus.UNPAID,  # money that was only held for it is given up
                "cancel_reason": reason,
            },
            kind=CANCELLED,
            actor=actor,
            detail="",
            now=now,
        )
        cancel_open_attempts(place, order_id=order.id, now=now)
    elif status == OrderStatus.PAID:
        cancelled = advance(
            place,
            order,
            changes={"refunding": True, "cancel_reason": reason},
            kind=REFUNDING,
            actor=actor,
            detail="cancelled after payment",
            now=now,
        )
        if order.total:
            refund_order(
                place, order_id=order.id, reason="The order was cancelled.", items=unrefunded_items(order.id), now=now
            )
        else:
            owe_settling(place, order.id, now=now)
    else:
        raise OrderNotCancellable(f"An order that is {status} cannot be cancelled.")
    owe_stock_change(place, order.id, now=now)
    return cancelled
