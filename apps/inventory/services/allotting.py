"""Units set aside for flash sales: allotted, taken back, and deducted for what was sold there.

The caller keeps the books of who has the units (transfers and receipts of promotions) in the same transaction.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from apps.inventory import locks, places, selectors, statements
from apps.inventory.errors import StockMismatch, UnknownSku
from apps.inventory.models import Movement, MovementKind, ReservationState
from apps.inventory.types import AllottedLine, Claim
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry


def lock_available(alias: str, sku: str) -> int:
    """Lock the SKU's stock row in the open transaction and return how many units can be bought. Raises UnknownSku."""
    rows = locks.lock_stock(alias, [sku])
    if sku not in rows:
        raise UnknownSku([sku])
    return rows[sku].available


def allot(alias: str, sku: str, units: int) -> bool:
    """Set units aside for a flash sale, in the open transaction; False, with nothing written, if there are fewer."""
    return statements.add_allotted(alias, {sku: units}) == 1


def take_back(alias: str, sku: str, units: int) -> None:
    """Return units from a flash sale to normal stock, in the open transaction.

    Raises StockMismatch when fewer are allotted, which only a change of the rows by hand leads to.
    """
    if statements.take_allotted(alias, {sku: units}) != 1:
        raise StockMismatch([])


def settle_allotted(lines: Sequence[AllottedLine], *, now: datetime) -> None:
    """Deduct what orders bought in flash sales from the stock for good, each order's units once.

    Writes a settled reservation for each line, whose key is what makes a repeat write nothing and which a refund
    restocks like any other, and a movement. Raises StockMismatch when the counters do not cover the lines.
    """
    by_alias: dict[str, list[AllottedLine]] = {}
    for line in lines:
        by_alias.setdefault(places.place_of_sku(line.sku), []).append(line)
    for alias, there in sorted(by_alias.items()):
        with_deadlock_retry(partial(_settle_in, alias, there, now))


def _settle_in(alias: str, lines: Sequence[AllottedLine], now: datetime) -> None:
    while True:
        known = _settled_orders(alias, [line.order_id for line in lines])
        new = [line for line in lines if line.order_id not in known]
        if not new:
            return
        try:
            with transaction.atomic(using=alias):
                _settle_new(alias, new, now)
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise  # another process has just settled one of them: the next turn sees it
        else:
            return


def _settle_new(alias: str, lines: Sequence[AllottedLine], now: datetime) -> None:
    claims = [Claim(line.order_id, line.user_id, b"", ((line.sku, line.quantity),)) for line in lines]
    statements.insert_reservations(alias, claims, now=now, state=ReservationState.SETTLED)
    units: Counter[str] = Counter()
    for line in lines:
        units[line.sku] += line.quantity
    if statements.take_allotted_and_on_hand(alias, units) != len(units):
        raise StockMismatch([line.order_id for line in lines])
    Movement.objects.using(alias).bulk_create(
        Movement(
            sku=line.sku,
            kind=MovementKind.DEDUCTION,
            quantity=-line.quantity,
            reason="flash sale",
            actor="system",
            order_id=line.order_id,
            at=now,
        )
        for line in lines
    )


def _settled_orders(alias: str, order_ids: Collection[int]) -> set[int]:
    return {hold.order_id for hold in selectors.holds_of(alias, order_ids)}
