"""Brings the units of flash orders in line with the orders' states; the counterpart of `stock` for reservations.

the order is        a held claim                              a settled claim
unpaid              stays                                     -
paid and on         its units leave the stock for good        stays
closed, refunded    back to the sale while it sells,          restocked, like any settled reservation
                    else to normal stock
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from apps.inventory import services as inventory
from apps.inventory.types import AllottedLine
from apps.orders.domain import StockTarget
from apps.orders.services.flash_transfers import complete_all
from apps.promotions import services as promotions
from apps.promotions.selectors import claims_of
from apps.promotions.types import SaleClaim
from infra.sharding.places import place_of_order


def flash_claims_of(order_ids: Collection[int]) -> dict[int, SaleClaim]:
    """Return what those of the orders that are flash orders took from their sales, by order id."""
    by_alias: dict[str, list[int]] = defaultdict(list)
    for order_id in order_ids:
        by_alias[place_of_order(order_id).alias].append(order_id)
    return {claim.order_id: claim for alias, members in by_alias.items() for claim in claims_of(alias, members)}


def sync_flash_units(targets: Mapping[StockTarget, Sequence[int]], *, now: datetime) -> None:
    """Bring the claims of flash orders to where their orders' states ask them to be.

    State-based and idempotent: claims only ever go forward, by compare-and-set, so any number of runs end the same.
    """
    by_alias: dict[str, dict[StockTarget, list[int]]] = defaultdict(lambda: defaultdict(list))
    for target, order_ids in targets.items():
        for order_id in order_ids:
            by_alias[place_of_order(order_id).alias][target].append(order_id)
    for alias, members in by_alias.items():
        _sync_on(alias, members, now=now)


def _sync_on(alias: str, targets: Mapping[StockTarget, Sequence[int]], *, now: datetime) -> None:
    returned = targets.get(StockTarget.RETURN, ())
    # What is held goes back; of what is not, a refunded order's was decided to leave the stock, and has to first.
    complete_all(promotions.give_back(alias, [*targets.get(StockTarget.RELEASE, ()), *returned], now=now), now=now)
    settled = promotions.begin_settling(alias, [*targets.get(StockTarget.SETTLE, ()), *returned], now=now)
    if settled:
        inventory.settle_allotted(
            [AllottedLine(claim.order_id, claim.user_id, claim.sku, claim.quantity) for claim in settled], now=now
        )
        promotions.finish_settling(alias, [claim.order_id for claim in settled], now=now)
    if returned:
        inventory.restock(returned, now=now)
