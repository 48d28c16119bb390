"""Moves units of a flash sale between normal stock and the shards, and between shards: debit, credit, done.

Each step is one transaction in one database (promotions/services/transfers.py has the rows that make them a saga). At
every moment a unit is on exactly one of: a counter of stock, an allotment, an open transfer. `resume_transfers`, run by
beat, finishes what was left between two steps.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from django.db import DatabaseError, OperationalError, transaction

from apps.inventory import services as inventory
from apps.inventory.errors import StockMismatch
from apps.inventory.places import inventory_aliases, place_of_sku
from apps.orders.types import SweepReport
from apps.promotions import services as promotions
from apps.promotions.domain import shares, units_to_draw
from apps.promotions.errors import SaleRefused, TransferMismatch
from apps.promotions.selectors import allotments_of, open_transfers, transferred_units
from apps.promotions.types import STOCK, Allotment, ItemKey, Transfer
from infra.errors import DomainError
from infra.followups.rounds import round_over
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import shard_aliases

_log = logging.getLogger(__name__)

# A batch that came up short looks so often for a moment at which nothing moves.
_LOOKS: Final = 3
_FAILURES: Final = (DatabaseError, DomainError, StockMismatch, TransferMismatch)


class Drawn(Enum):
    """What became of a shard's wish for more units."""

    GOT = "got"  # units have come, perhaps not all that were wished for
    DRY = "dry"  # nobody who can be reached has any, and none is on its way
    MOVING = "moving"  # units are on their way, or moved while we looked


@dataclass(frozen=True, slots=True)
class _Look:
    """The allotments of an item on all shards that can be reached, and the transfers that are open."""

    allotments: tuple[Allotment, ...]
    transfers: tuple[Transfer, ...]

    @property
    def state(self) -> tuple[object, ...]:
        """What is equal for two looks between which nothing moved."""
        return tuple((each.alias, each.version) for each in self.allotments), tuple(each.id for each in self.transfers)


def allot_from_stock(item: ItemKey, quota: int, *, now: datetime) -> None:
    """Bring what was ever allotted of an item up to its quota: out of normal stock, evenly to the shards.

    Idempotent, also after a kill at any point: what was debited before counts. Raises UnknownSku, and SaleRefused when
    normal stock has too few units; nothing is written then.
    Concurrency: decided under the lock of the stock row.
    """
    for transfer in with_deadlock_retry(lambda: _debit_stock(item, quota, now=now)):
        complete(transfer, now=now)


def _debit_stock(item: ItemKey, quota: int, *, now: datetime) -> list[Transfer]:
    sku = item[1]
    alias = place_of_sku(sku)
    with transaction.atomic(using=alias):
        available = inventory.lock_available(alias, sku)
        missing = quota - transferred_units(alias, item)
        if missing <= 0:
            return []
        if not inventory.allot(alias, sku, missing):
            raise SaleRefused(f"{sku}: the sale needs {missing} more units, and only {available} can be allotted.")
        aliases = shard_aliases()
        return [
            promotions.record_debit(alias, item, units, creditor=creditor, now=now)
            for creditor, units in zip(aliases, shares(missing, len(aliases)), strict=True)
            if units
        ]


def draw(alias: str, item: ItemKey, *, needed: int, smallest: int, now: datetime) -> Drawn:
    """Get units of an item for a shard that has too few: from the open transfers, then from the other shards.

    `needed` units are missing; the `smallest` wish for which there were too few here tells whether some came meanwhile.

    Concurrency: any number of shards may draw from each other at once; none ever gives what it sells. That nobody has
    any is said only after two looks between which nothing moved: units on their way from one place that was looked at
    to another that had been looked at before are not missed. A database that cannot be reached is left out.
    """
    for _ in range(_LOOKS):
        look = _look(item)
        if any(each.alias == alias and not each.closed and each.unsold >= smallest for each in look.allotments):
            return Drawn.GOT
        if _finish(look.transfers, now=now) or _draw_from_others(look, alias, item, needed=needed, now=now):
            return Drawn.GOT
        again = _look(item)
        if look.state == again.state:
            elsewhere = any(each.alias != alias and not each.closed and each.unsold > 0 for each in again.allotments)
            return Drawn.MOVING if elsewhere or again.transfers else Drawn.DRY
    return Drawn.MOVING


def _draw_from_others(look: _Look, alias: str, item: ItemKey, *, needed: int, now: datetime) -> bool:
    got = 0
    for debtor in sorted(look.allotments, key=lambda each: each.unsold, reverse=True):
        if debtor.alias == alias or debtor.closed or debtor.unsold <= 0 or got >= needed:
            continue
        units = units_to_draw(unsold=debtor.unsold, needed=needed - got)
        try:
            transfer = promotions.debit_allotment(debtor.alias, item, units, creditor=alias, now=now)
            if transfer is not None:
                complete(transfer, now=now)
                got += units
        except OperationalError:
            _log.warning("%s gives nothing of %s now", debtor.alias, item, exc_info=True)
    return got > 0


def _look(item: ItemKey) -> _Look:
    allotments: list[Allotment] = []
    transfers: list[Transfer] = []
    for alias in shard_aliases():
        try:
            allotments += allotments_of(alias, [item]).values()
            transfers += open_transfers(alias, item=item)
        except OperationalError:
            _log.warning("%s cannot be asked for %s", alias, item)
    try:
        transfers += open_transfers(place_of_sku(item[1]), item=item)
    except OperationalError:
        _log.warning("stock cannot be asked for %s", item)
    return _Look(tuple(allotments), tuple(transfers))


def _finish(transfers: Sequence[Transfer], *, now: datetime) -> bool:
    """Complete open transfers to shards; True if any of them was."""
    finished = False
    for transfer in transfers:
        if transfer.creditor == STOCK:
            continue
        try:
            complete(transfer, now=now)
            finished = True
        except OperationalError:
            _log.warning("transfer %d to %s waits", transfer.id, transfer.creditor)
    return finished


def complete(transfer: Transfer, *, now: datetime) -> None:
    """Bring a debited transfer to its end: credit, then done. Idempotent, at any time and in any process.

    What a closed allotment sends on to stock is completed too.
    """
    onward = credit(transfer, now=now)
    promotions.mark_done(transfer)
    if onward is not None:
        complete(onward, now=now)


def credit(transfer: Transfer, *, now: datetime) -> Transfer | None:
    """Give the creditor the units, once; return the transfer that sends them on where the sale is closed."""
    if transfer.creditor != STOCK:
        return promotions.receive(transfer.creditor, transfer, now=now)
    with_deadlock_retry(lambda: _credit_stock(transfer, now=now))
    return None


def _credit_stock(transfer: Transfer, *, now: datetime) -> None:
    alias = place_of_sku(transfer.sku)
    with transaction.atomic(using=alias):
        if promotions.record_receipt(alias, transfer, now=now):
            inventory.take_back(alias, transfer.sku, transfer.quantity)


def resume_transfers(*, now: datetime) -> SweepReport:
    """Bring every open transfer to its end; what cannot be reached waits for the next run. Returns counts."""
    counts: Counter[str] = Counter()

    def resume(alias: str) -> int:
        for transfer in open_transfers(alias):
            counts["completed" if _try(transfer, now=now) else "waiting"] += 1
        return 0

    round_over((*inventory_aliases(), *shard_aliases()), "transfers of flash sales", resume)
    return SweepReport(dict(counts))


def complete_all(transfers: Sequence[Transfer], *, now: datetime) -> None:
    """Complete transfers that were just debited; what fails is left to `resume_transfers`."""
    for transfer in transfers:
        _try(transfer, now=now)


def open_transfers_of(items: Sequence[ItemKey]) -> Iterator[Transfer]:
    """Yield the open transfers of the items at every debtor; raises OperationalError for one that is away."""
    for item in items:
        for alias in (place_of_sku(item[1]), *shard_aliases()):
            yield from open_transfers(alias, item=item)


def _try(transfer: Transfer, *, now: datetime) -> bool:
    try:
        complete(transfer, now=now)
    except _FAILURES:
        _log.warning("transfer %d from %s to %s waits", transfer.id, transfer.alias, transfer.creditor, exc_info=True)
        return False
    return True
