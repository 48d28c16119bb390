"""The only locking reads of inventory.

One global order, so that no two transactions wait for each other: reservation rows first (by partition, then by key),
then stock rows (SKU ascending). The one exception inserts reservations of new orders under stock locks; nobody can
wait for those rows while holding stock, since nobody else knows the order yet.
"""

from collections.abc import Collection
from dataclasses import dataclass

from django.db import connections

from apps.inventory.models import Stock
from infra.sharding.ids import slot_of


@dataclass(frozen=True, slots=True)
class LockedReservation:
    """One row of a reservation under its lock."""

    order_id: int
    sku: str
    quantity: int
    state: int


def lock_stock(alias: str, skus: Collection[str]) -> dict[str, Stock]:
    """Lock the stock rows of the SKUs in ascending order and return those that exist."""
    rows = Stock.objects.using(alias).select_for_update().filter(sku__in=sorted(skus)).order_by("sku")
    return {row.sku: row for row in rows}


def lock_reservations(alias: str, order_ids: Collection[int]) -> list[LockedReservation]:
    """Lock all reservation rows of the orders.

    Without ORDER BY the server takes partition after partition and each in key order, the same order for every
    transaction; with ORDER BY it would first touch the lowest row of each partition, an order that depends on which
    orders are asked for and so could deadlock against another batch.
    """
    keys = sorted((slot_of(order_id), order_id) for order_id in order_ids)
    condition = ", ".join(["(%s, %s)"] * len(keys))
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT order_id, sku, quantity, state FROM inventory_reservation FORCE INDEX (PRIMARY) "  # noqa: S608
            f"WHERE (slot, order_id) IN ({condition}) FOR UPDATE",
            [part for key in keys for part in key],
        )
        return [LockedReservation(*row) for row in cursor.fetchall()]
