"""The only locking reads of orders."""

from apps.orders.models import Order, OrderKind
from infra.sharding.months import Month
from infra.sharding.places import Place


def lock_order(place: Place, order_id: int) -> Order | None:
    """Return the row of a real order, locked until the transaction ends, or None.

    For use cases that must decide once, because they may have joined a transaction that cannot begin again.
    """
    rows = Order.objects.at(place, Month.of_id(order_id)).filter(id=order_id, kind=OrderKind.REAL)
    return rows.select_for_update().first()
