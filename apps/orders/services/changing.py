"""How a use case changes an order: one transaction on its place, again when somebody else was first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from apps.orders.errors import OrderChanged, OrderMovedOn, OrderNotFound
from apps.orders.locks import lock_order
from apps.orders.models import Order, OrderEvent
from apps.orders.selectors import find_order
from infra.errors import Overloaded
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import Place, place_of_order, place_of_user

_MAX_TRIES: Final = 8
_MAX_TOLD: Final = 5
T = TypeVar("T")


def change_order(order_id: int, change: Callable[[Place, Order], T], *, expected_version: int | None = None) -> T:
    """Call `change` with the order as it is now, in a transaction on its place; again where it lost a race.

    `expected_version` is the version that whoever decided this had before them. Raises OrderNotFound, OrderMovedOn
    (the order is at another version, told with what happened since), Overloaded after too many lost races.
    """
    place = place_of_order(order_id)

    def transaction() -> T:
        with place.atomic():
            order = find_order(order_id)
            if order is None:
                raise OrderNotFound("There is no such order.")
            _check_version(order, expected_version)
            return change(place, order)

    for _ in range(_MAX_TRIES):
        try:
            return with_deadlock_retry(transaction)
        except OrderChanged:
            continue
    raise Overloaded("The order is being changed by too many at once. Nothing was done.")


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
