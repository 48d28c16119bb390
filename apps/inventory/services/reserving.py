"""Reserve stock for a batch of claims, each wholly or not at all."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from apps.inventory import places
from apps.inventory.services.closing import release
from apps.inventory.services.strategies import hold_as_chosen, strategy_of
from apps.inventory.services.strategies.merged import Refusals, hold_together
from apps.inventory.types import Claim, Lines
from infra.errors import Overloaded


def reserve(claims: Sequence[Claim], *, now: datetime) -> Refusals:
    """Hold the stock of each claim wholly, or tell all of its shortages; return them by order id, () meaning held.

    Claims come first served in the order given. A claim of an order that holds the same lines already is held (a
    repeat). Raises ReservationConflict, and writes nothing, when an order's reservation is closed or holds other
    lines; ValueError for quantities below 1. A lone claim of SKUs whose strategy is not `merged` is taken as they ask
    (and may raise Overloaded with nothing taken, or OutcomeUnknown); several are `merged`, whatever they ask, since
    that is what several claims at once are.

    Concurrency: never lets `reserved` pass what is on hand, whoever else writes. One transaction a database with one
    guarded UPDATE for the batch; only when that falls short are the SKUs locked in ascending order and the winners
    decided in memory. Deadlocks and lock waits are retried.
    """
    if any(quantity < 1 for claim in claims for _, quantity in claim.lines):
        raise ValueError("A claim takes at least one unit of each SKU.")
    refusals: Refusals = {claim.order_id: () for claim in claims}
    is_apart = len(claims) == 1 and strategy_of(sku for sku, _ in claims[0].lines) is not None
    hold = hold_as_chosen if is_apart else hold_together
    parts = _parts_by_alias(claims)
    for alias, claims_there in sorted(parts.items()):
        try:
            refused = hold(alias, claims_there, now=now)
        except Overloaded:
            if len(parts) > 1:
                release(list(refusals), now=now)  # "nothing was taken" holds for the other places too
            raise
        for order_id, shortages in refused.items():
            refusals[order_id] += shortages
    if len(parts) > 1:
        # What a refused order got in one place goes back, since it was short in another.
        release([order_id for order_id, shortages in refusals.items() if shortages], now=now)
    return refusals


def _parts_by_alias(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    parts: dict[str, list[Claim]] = {}
    for claim in claims:
        for alias, lines in _lines_by_alias(claim.lines).items():
            parts.setdefault(alias, []).append(claim if lines == claim.lines else replace(claim, lines=lines))
    return parts


def _lines_by_alias(lines: Lines) -> dict[str, Lines]:
    by_alias: dict[str, Lines] = {}
    for line in lines:
        alias = places.place_of_sku(line[0])
        by_alias[alias] = (*by_alias.get(alias, ()), line)
    return by_alias
