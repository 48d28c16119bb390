"""`merged`, the default: the claims of a batch are one guarded UPDATE, or one decision under the rows' locks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.db import IntegrityError, transaction

from apps.inventory import locks, selectors, statements
from apps.inventory.errors import ReservationConflict
from apps.inventory.types import Claim, Shortage
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry

Refusals = dict[int, tuple[Shortage, ...]]

# The states' names in which an order still has what it claimed.
_OPEN_STATES: Final = frozenset({"held", "confirmed", "settled"})
_REPEAT_ATTEMPTS: Final = 3


def hold_together(alias: str, claims: Sequence[Claim], *, now: datetime) -> Refusals:
    """Hold the claims in one database: all at once if all have stock, else one after another in memory.

    Raises ReservationConflict, with nothing written.
    """
    for attempt in range(1, _REPEAT_ATTEMPTS + 1):
        try:
            if attempt == 1 and with_deadlock_retry(partial(_hold_all, alias, claims, now)):
                return {claim.order_id: () for claim in claims}
            return with_deadlock_retry(partial(_hold_winners, alias, claims, now))
        except IntegrityError as error:
            # A repeat: the order's rows were there, or came between the read and the insert. The next turn reads them.
            if not is_duplicate_key(error) or attempt == _REPEAT_ATTEMPTS:
                raise
    raise AssertionError("The last attempt returns or raises.")


def _hold_all(alias: str, claims: Sequence[Claim], now: datetime) -> bool:
    """Hold every claim and return True, or change nothing and return False when any SKU is short."""
    wanted = units_by_sku(claims)
    with transaction.atomic(using=alias):
        statements.insert_reservations(alias, claims, now=now)
        if statements.add_reserved(alias, wanted) == len(wanted):
            return True
        transaction.set_rollback(True, using=alias)
        return False


def _hold_winners(alias: str, claims: Sequence[Claim], now: datetime) -> Refusals:
    """Hold the claims that the stock covers, first come first served; tell the shortages of the others."""
    with transaction.atomic(using=alias):
        stock = locks.lock_stock(alias, units_by_sku(claims))
        repeats = repeats_of(alias, claims)
        left = {sku: row.available for sku, row in stock.items()}
        winners: list[Claim] = []
        refusals: Refusals = {}
        for claim in claims:
            if claim.order_id in repeats:
                refusals[claim.order_id] = ()
                continue
            refusals[claim.order_id] = shortages_of(claim, left)
            if not refusals[claim.order_id]:
                winners.append(claim)
                for sku, quantity in claim.lines:
                    left[sku] -= quantity
        if winners:
            statements.insert_reservations(alias, winners, now=now)
            wanted = units_by_sku(winners)
            if statements.add_reserved(alias, wanted) != len(wanted):
                raise AssertionError("Locked stock rows changed under their lock.")
        return refusals


def repeats_of(alias: str, claims: Sequence[Claim]) -> set[int]:
    """Return the orders that hold their claim already. Raises ReservationConflict for those that once did."""
    lines_of = {claim.order_id: claim.lines for claim in claims}
    holds = selectors.holds_of(alias, lines_of)
    conflicts = [
        hold.order_id for hold in holds if hold.state not in _OPEN_STATES or hold.lines != lines_of[hold.order_id]
    ]
    if conflicts:
        raise ReservationConflict(conflicts)
    return {hold.order_id for hold in holds}


def shortages_of(claim: Claim, left: Mapping[str, int]) -> tuple[Shortage, ...]:
    """Return the SKUs of which a claim wants more than is left; a SKU that is not named has nothing left."""
    return tuple(
        Shortage(sku=sku, requested=quantity, available=max(left.get(sku, 0), 0))
        for sku, quantity in claim.lines
        if quantity > left.get(sku, 0)
    )


def units_by_sku(claims: Iterable[Claim]) -> Counter[str]:
    """Return how many units the claims want together of each SKU."""
    units: Counter[str] = Counter()
    for claim in claims:
        for sku, quantity in claim.lines:
            units[sku] += quantity
    return units
