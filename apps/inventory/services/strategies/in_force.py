"""What this process believes that the staff have chosen: one look into a dict, which is empty in the usual case."""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from apps.inventory import places
from apps.inventory.domain import Strategy, longest_waiting
from apps.inventory.models import SkuStrategy
from apps.inventory.types import Claim
from infra.sharding.background import Periodic

_log = logging.getLogger(__name__)

REFRESH_INTERVAL_S: Final = 2.0


class _InForce:
    """The strategies of the SKUs that have one; replaced as a whole, never changed."""

    by_sku: Mapping[str, Strategy] = {}


_in_force: Final = _InForce()


def strategy_of(skus: Iterable[str]) -> Strategy | None:
    """Return the slowest strategy of these SKUs, None where all are `merged`; costs nothing where no SKU has one."""
    by_sku = _in_force.by_sku
    if not by_sku:
        return None
    chosen = [by_sku[sku] for sku in skus if sku in by_sku]
    return longest_waiting(chosen) if chosen else None


def strategies_of(claim: Claim) -> dict[str, Strategy]:
    """Return the strategy of each SKU of a claim."""
    by_sku = _in_force.by_sku
    return {sku: by_sku.get(sku, Strategy.MERGED) for sku, _ in claim.lines}


def refresh() -> None:
    """Read what the staff have chosen and let it hold in this process.

    Raises the database's error when a place cannot be read; the last choices then go on to hold. A stored strategy
    that this code does not know (any longer) is logged, and the SKU is `merged`.
    """
    by_sku: dict[str, Strategy] = {}
    for alias in places.inventory_aliases():
        for sku, strategy in SkuStrategy.objects.using(alias).values_list("sku", "strategy"):
            try:
                by_sku[sku] = Strategy(strategy)
            except ValueError:
                _log.error("the stored strategy of %s is none: %s", sku, strategy)
    _in_force.by_sku = by_sku


_refreshing: Final = Periodic("stock-strategies", REFRESH_INTERVAL_S, refresh)
