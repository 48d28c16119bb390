"""Stock against reservations, in the databases of stock. Each check is one statement, hence one snapshot."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from apps.inventory import services as inventory
from apps.inventory.models import ReservationState
from apps.orders.audit.findings import Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch

_OPEN = f"({ReservationState.HELD:d}, {ReservationState.CONFIRMED:d})"


def counters_within_bounds(alias: str, now: datetime) -> Iterator[Finding]:
    """`on_hand >= reserved + allotted`, and nothing below zero."""
    rows = fetch(
        alias,
        "SELECT sku, on_hand, reserved, allotted FROM inventory_stock "
        f"WHERE on_hand < reserved + allotted OR reserved < 0 OR allotted < 0 LIMIT {MAX_FINDINGS}",
    )
    for sku, on_hand, reserved, allotted in rows:
        yield Finding(
            "stock", alias, f"SKU {sku}", f"oversold: on hand {on_hand}, reserved {reserved}, allotted {allotted}"
        )


def reserved_is_what_is_held(alias: str, now: datetime) -> Iterator[Finding]:
    """`reserved` of each SKU is the sum of its open reservations."""
    # A union rather than a join: MariaDB would sum up the reservations anew for each SKU.
    rows = fetch(
        alias,
        "SELECT sku, SUM(counters), SUM(reserved), SUM(held) FROM "
        "(SELECT sku, 1 AS counters, reserved, 0 AS held FROM inventory_stock UNION ALL "
        f"SELECT sku, 0, 0, SUM(quantity) FROM inventory_reservation WHERE state IN {_OPEN} GROUP BY sku) both_sides "
        f"GROUP BY sku HAVING SUM(reserved) <> SUM(held) LIMIT {MAX_FINDINGS}",
    )
    for sku, counters, reserved, held in rows:
        if counters:
            yield Finding(
                "stock",
                alias,
                f"SKU {sku}, reserved",
                f"the counter says {reserved}, open reservations hold {held}",
                mend=partial(_recount, sku),
            )
        else:
            yield Finding("stock", alias, f"SKU {sku}, missing", f"{held} units are reserved of a SKU without stock")


def _recount(sku: str, now: datetime) -> None:
    inventory.recount_reserved([sku])
