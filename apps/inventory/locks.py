"""The only locking reads of inventory.

One global order, so that no two transactions wait for each other: reservation rows first (ascending by slot, order and
SKU), then stock rows (SKU ascending). The one exception inserts reservations of new orders under stock locks; nobody
can wait for those rows while holding stock, since nobody else knows the order yet.
"""

from collections.abc import Collection
from dataclasses import dataclass

from django.db import connections

from apps.inventory import statements
from apps.inventory.models import Stock


@dataclass(frozen=True, slots=True)
class LockedReservation:
    """One row of a reservation under its lock."""

    order_id: int
    sku: str
    quantity: int
    state: int
    returned: int


def lock_stock(alias: str, skus: Collection[str]) -> dict[str, Stock]:
    """Lock the stock rows of the SKUs in ascending order and return those that exist."""
    rows = Stock.objects.using(alias).select_for_update().filter(sku__in=sorted(skus)).order_by("sku")
    return {row.sku: row for row in rows}


def lock_reservations(alias: str, order_ids: Collection[int]) -> list[LockedReservation]:
    """Lock all reservation rows of the orders, in ascending order of the key whatever the partitions are.

    The server walks the list of keys and looks each up in its one partition. An IN list would be walked partition by
    partition, or the whole table scanned, as the optimizer sees fit.
    """
    if not order_ids:
        return []
    keys, parameters = statements.key_list(order_ids)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT STRAIGHT_JOIN r.order_id, r.sku, r.quantity, r.state, r.returned "  # noqa: S608
            f"FROM {keys} JOIN inventory_reservation r FORCE INDEX (PRIMARY) "
            "ON r.slot = k.slot AND r.order_id = k.order_id FOR UPDATE",
            parameters,
        )
        return [LockedReservation(*row) for row in cursor.fetchall()]
