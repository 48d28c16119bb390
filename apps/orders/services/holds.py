"""Holding an order back while the staff look into it, and the guard of what must wait meanwhile.

A hold stops what lets money or goods go for good: capturing an authorised payment, and shipping. It stops neither what
a provider tells (money that has come has come), nor cancelling, which is how a fraud ends, nor refunds. Whoever ships
or captures calls `require_not_held` in the transaction in which they have changed the order (`advance`) or locked it:
holding locks the order's row too, so of both at once one comes first, and the other sees it.
"""

from datetime import datetime

from apps.orders.domain import OrderStatus
from apps.orders.errors import OrderHeld, OrderNotFound, OrderNotHoldable
from apps.orders.locks import lock_order
from apps.orders.models import OrderHold
from infra.sharding.places import Place, place_of_order

_ENDED = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REFUNDED, OrderStatus.COMPLETED})


def require_not_held(place: Place, order_id: int) -> None:
    """Raise OrderHeld while the staff hold the order back; call it in the transaction that has its row's lock."""
    if OrderHold.objects.at(place).filter(order_id=order_id).exists():
        raise OrderHeld("The order is held back while it is looked into.")


def hold_order(*, order_id: int, reason: str, staff_id: int, staff_name: str, now: datetime) -> None:
    """Hold an order back; one that is held stays as it is.

    Raises OrderNotFound, and OrderNotHoldable for one whose life has ended.
    """
    place = place_of_order(order_id)
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None:
            raise OrderNotFound("There is no such order.")
        if order.status in _ENDED:
            raise OrderNotHoldable(f"An order that is {order.status} has nothing left to hold back.")
        if OrderHold.objects.at(place).filter(order_id=order_id).exists():
            return
        OrderHold(
            slot=place.slot, order_id=order_id, reason=reason, staff_id=staff_id, staff_name=staff_name, at=now
        ).save(using=place.alias, force_insert=True)


def release_hold(*, order_id: int) -> bool:
    """Let an order go on; returns False when nobody held it."""
    place = place_of_order(order_id)
    with place.atomic():
        if lock_order(place, order_id) is None:
            raise OrderNotFound("There is no such order.")
        deleted, _ = OrderHold.objects.at(place).filter(order_id=order_id).delete()
    return bool(deleted)


def hold_of(order_id: int) -> OrderHold | None:
    """Return the hold on an order, or None."""
    return OrderHold.objects.for_order(order_id).filter(order_id=order_id).first()


def oldest_holds(alias: str, *, limit: int) -> list[OrderHold]:
    """Return the holds of a shard, oldest first."""
    return list(OrderHold.objects.on_shard(alias).order_by("at")[:limit])
