"""Reserve stock for a batch of claims, each wholly or not at all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.db import IntegrityError, transaction
from msgspec.structs import replace

from apps.inventory import locks, places, selectors, statements
from apps.inventory.errors import ReservationConflict
from apps.inventory.services.closing import release
from apps.inventory.types import Claim, Lines, Shortage
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry

Refusals = dict[int, tuple[Shortage, ...]]

# The states' names in which an order still has what it claimed.
_OPEN_STATES: Final = frozenset({"held", "confirmed", "settled"})
_REPEAT_ATTEMPTS: Final = 3


def reserve(claims: Sequence[Claim], *, now: datetime) -> Refusals:
    """Hold the stock of each claim wholly, or tell all of its shortages; return them by order id, () meaning held.

    Claims come first served in the order given. A claim of an order that holds the same lines already is held (a
    repeat). Raises ReservationConflict, and writes nothing, when an order's reservation is closed or holds other
    lines; ValueError for quantities below 1.

    Concurrency: never lets `reserved` pass what is on hand, whoever else writes. One transaction a database with one
    guarded UPDATE for the batch; only when that falls short are the SKUs locked in ascending order and the winners
    decided in memory. Deadlocks and lock waits are retried.
    """
    if any(quantity < 1 for claim in claims for _, quantity in claim.lines):
        raise ValueError("A claim takes at least one unit of each SKU.")
    refusals: Refusals = {claim.order_id: () for claim in claims}
    parts = _parts_by_alias(claims)
    for alias, claims_there in sorted(parts.items()):
        for order_id, shortages in _reserve_in(alias, claims_there, now=now).items():
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


def _reserve_in(alias: str, claims: Sequence[Claim], *, now: datetime) -> Refusals:
    """Hold the claims in one database: all at once if all have stock, else one after another in memory."""
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
    wanted = _units_by_sku(claims)
    with transaction.atomic(using=alias):
        statements.insert_reservations(alias, claims, now=now)
        if statements.add_reserved(alias, wanted) == len(wanted):
            return True
        transaction.set_rollback(True, using=alias)
        return False


def _hold_winners(alias: str, claims: Sequence[Claim], now: datetime) -> Refusals:
    """Hold the claims that the stock covers, first come first served; tell the shortages of the others."""
    with transaction.atomic(using=alias):
        stock = locks.lock_stock(alias, _units_by_sku(claims))
        repeats = _repeats(alias, claims)
        left = {sku: row.available for sku, row in stock.items()}
        winners: list[Claim] = []
        refusals: Refusals = {}
        for claim in claims:
            if claim.order_id in repeats:
                refusals[claim.order_id] = ()
                continue
            refusals[claim.order_id] = _shortages(claim, left)
            if not refusals[claim.order_id]:
                winners.append(claim)
                for sku, quantity in claim.lines:
                    left[sku] -= quantity
        if winners:
            statements.insert_reservations(alias, winners, now=now)
            wanted = _units_by_sku(winners)
            if statements.add_reserved(alias, wanted) != len(wanted):
                raise AssertionError("Locked stock rows changed under their lock.")
        return refusals


def _repeats(alias: str, claims: Sequence[Claim]) -> set[int]:
    """Return the orders that hold their claim already. Raises ReservationConflict for those that once did."""
    lines_of = {claim.order_id: claim.lines for claim in claims}
    holds = selectors.holds_of(alias, lines_of)
    conflicts = [
        hold.order_id for hold in holds if hold.state not in _OPEN_STATES or hold.lines != lines_of[hold.order_id]
    ]
    if conflicts:
        raise ReservationConflict(conflicts)
    return {hold.order_id for hold in holds}


def _shortages(claim: Claim, left: Mapping[str, int]) -> tuple[Shortage, ...]:
    return tuple(
        Shortage(sku=sku, requested=quantity, available=max(left.get(sku, 0), 0))
        for sku, quantity in claim.lines
        if quantity > left.get(sku, 0)
    )


def _units_by_sku(claims: Iterable[Claim]) -> Counter[str]:
    units: Counter[str] = Counter()
    for claim in claims:
        for sku, quantity in claim.lines:
            units[sku] += quantity
    return units
