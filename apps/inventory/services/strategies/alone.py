"""One order claimed by itself, in one transaction in which each SKU is taken as its strategy asks.

    optimistic     the guarded UPDATE passes only if the row still has the version that was read before
    pessimistic    SELECT ... FOR UPDATE, then the guarded UPDATE
    lock           the guarded UPDATE, while this order has the SKU's lock in Redis
    merged, queue  the guarded UPDATE

Stock rows are locked in ascending order of the SKU, which is the order of every other transaction, so an order of
several strategies meets no deadlock, and is whole or not at all without anything to give back.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.inventory import locks, selectors, statements
from apps.inventory.domain import Strategy
from apps.inventory.services.strategies import metrics
from apps.inventory.services.strategies.in_force import strategies_of
from apps.inventory.services.strategies.merged import hold_together, repeats_of, shortages_of
from apps.inventory.services.strategies.sku_lock import sku_locks
from apps.inventory.types import Claim, Shortage, StockLevel
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry


def hold_alone(alias: str, claim: Claim, *, now: datetime) -> tuple[Shortage, ...]:
    """Hold a claim in one database, or tell all of its shortages; a claim that its order holds already is held.

    A sold-out SKU is told from a plain read, without any lock. Whoever has lost the race `STOCK_CLAIM_ATTEMPTS` times
    is decided under the rows' locks, so a crowd costs time and no verdict. Raises ReservationConflict.
    """
    strategies = strategies_of(claim)
    with sku_locks([sku for sku, strategy in strategies.items() if strategy is Strategy.LOCK]):
        return _hold(alias, claim, strategies, now=now)


def _hold(alias: str, claim: Claim, strategies: Mapping[str, Strategy], *, now: datetime) -> tuple[Shortage, ...]:
    for _ in range(settings.STOCK_CLAIM_ATTEMPTS):
        levels = selectors.stock_levels(alias, strategies)
        shortages = shortages_of(claim, {sku: level.available for sku, level in levels.items()})
        if shortages:
            # Read after the stock: an order that took these very units is seen.
            return () if repeats_of(alias, [claim]) else shortages
        try:
            if with_deadlock_retry(partial(_take, alias, claim, strategies, levels, now)):
                return ()
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise
            break  # a repeat
        metrics.CONTENTION.labels("outrun").inc()
    return hold_together(alias, [claim], now=now)[claim.order_id]


def _take(
    alias: str, claim: Claim, strategies: Mapping[str, Strategy], levels: Mapping[str, StockLevel], now: datetime
) -> bool:
    """Hold the claim and return True, or change nothing and return False when a SKU was short or its version old."""
    with transaction.atomic(using=alias):
        statements.insert_reservations(alias, [claim], now=now)
        for sku, units in sorted(claim.lines):
            if not _take_sku(alias, sku, units, strategies[sku], levels[sku]):
                transaction.set_rollback(True, using=alias)
                return False
    return True


def _take_sku(alias: str, sku: str, units: int, strategy: Strategy, level: StockLevel) -> bool:
    if strategy is Strategy.OPTIMISTIC:
        return statements.add_reserved_at_version(alias, sku, units, version=level.version) == 1
    if strategy is Strategy.PESSIMISTIC and locks.lock_stock(alias, [sku])[sku].available < units:
        return False
    return statements.add_reserved(alias, {sku: units}) == 1
