"""How a use case changes an order: one transaction on its place, under the lock of the order's row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from apps.orders.errors import OrderMovedOn, OrderNotFound
from apps.orders.locks import lock_order
from apps.orders.models import Order, OrderEvent
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import Place, place_of_order, place_of_user

_MAX_TOLD: Final = 5
T = TypeVar("T")


def change_order(order_id: int, change: Callable[[Place, Order], T], *, expected_version: int | None = None) -> T:
    """Call `change` with the order as it is now, locked, in a transaction on its place.

    All rows of an order are written by who has its row, so whatever `change` reads of them is of one moment: what it
    refuses, too, it refuses for what is so. `expected_version` is the version that whoever decided this had before
    them. Raises OrderNotFound, OrderMovedOn (the order is at another version, told with what happened since).
    """
    place = place_of_order(order_id)

    def transaction() -> T:
        with place.atomic():
            order = lock_order(place, order_id)
            if order is None:
                raise OrderNotFound("There is no such order.")
            _check_version(order, expected_version)
            return change(place, order)

    return with_deadlock_retry(transaction)


def _check_version(order: Order, expected: int | None) -> None:
    if expected is None or order.version == expected:
        return
    newer = OrderEvent.objects.for_order(order.id).filter(order_id=order.id, version__gt=expected)
    told = [f"{event.kind} by {event.actor}" for event in newer.order_by("version")[: _MAX_TOLD + 1]]
    since = ", ".join(told[:_MAX_TOLD]) + (", ..." if len(told) > _MAX_TOLD else "")
    raise OrderMovedOn(
        f"The order has changed since: it is {order.status} at version {order.version}, not {expected}"
        + (f" ({since})." if since else ".")
    )


@contextmanager
def own_order_locked(*, user_id: int, order_id: int) -> Iterator[tuple[Place, Order]]:
    """Open a transaction with the shopper's order locked, for a use case that may have joined one that has begun.

    Raises OrderNotFound, for everybody else's order too.
    """
    place = place_of_user(user_id)
    if place.slot != place_of_order(order_id).slot:
        raise OrderNotFound("There is no such order.")
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None or order.user_id != user_id:
            raise OrderNotFound("There is no such order.")
        yield place, order
