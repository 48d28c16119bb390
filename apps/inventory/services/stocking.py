"""Stock set by people and by the first load: opening rows and adjustments, each with its movement."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Final

from django.db import IntegrityError, transaction

from apps.inventory import locks, places
from apps.inventory.errors import UnknownSku
from apps.inventory.models import Movement, MovementKind, Stock
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry

MAX_UNITS: Final = 1_000_000_000
"""Leaves room in a signed 32-bit counter for what is reserved and allotted on top."""
_BATCH_SIZE: Final = 500


def adjust(sku: str, *, to: int, reason: str, actor: str, now: datetime) -> int:
    """Set how many units of the SKU can still be bought; return the change of the units on hand.

    What is reserved and allotted stays as it is and comes on top. Raises UnknownSku; ValueError for units outside 0 to
    MAX_UNITS. Concurrency: under the row's lock, so that no reservation falls between reading and writing.
    """
    return adjust_all([sku], to=to, reason=reason, actor=actor, now=now)[sku]


def adjust_all(skus: Collection[str], *, to: int, reason: str, actor: str, now: datetime) -> dict[str, int]:
    """Do what `adjust` does for several SKUs; return the changes by SKU.

    All of one database's SKUs change in one transaction, and none anywhere when any is unknown.
    """
    if not 0 <= to <= MAX_UNITS:
        raise ValueError(f"Units are 0 to {MAX_UNITS}, not {to}.")
    by_alias = _by_alias(skus)
    known = {
        sku
        for alias, there in by_alias.items()
        for sku in Stock.objects.using(alias).filter(sku__in=there).values_list("sku", flat=True)
    }
    if unknown := set(skus) - known:
        raise UnknownSku(unknown)
    changes: dict[str, int] = {}
    for alias, there in by_alias.items():
        changes |= with_deadlock_retry(partial(_adjust_in, alias, there, to=to, reason=reason, actor=actor, now=now))
    return changes


def open_stock(skus: Collection[str], *, units: int, now: datetime) -> int:
    """Make the missing stock rows among the SKUs, each with that many units; return how many were missing.

    Idempotent: existing rows are left as they are, also when another process makes them at the same time.
    """
    if not 0 <= units <= MAX_UNITS:
        raise ValueError(f"Units are 0 to {MAX_UNITS}, not {units}.")
    made = 0
    for alias, there in _by_alias(skus).items():
        for start in range(0, len(there), _BATCH_SIZE):
            made += _open_batch(alias, there[start : start + _BATCH_SIZE], units=units, now=now)
    return made


def _adjust_in(alias: str, skus: Collection[str], *, to: int, reason: str, actor: str, now: datetime) -> dict[str, int]:
    with transaction.atomic(using=alias):
        rows = locks.lock_stock(alias, skus)
        if unknown := set(skus) - set(rows):
            raise UnknownSku(unknown)
        changes = {sku: to - row.available for sku, row in rows.items()}
        for row in rows.values():
            row.on_hand += changes[row.sku]
            row.version += 1
        Stock.objects.using(alias).bulk_update(rows.values(), ["on_hand", "version"], batch_size=_BATCH_SIZE)
        Movement.objects.using(alias).bulk_create(
            Movement(sku=sku, kind=MovementKind.ADJUSTMENT, quantity=change, reason=reason, actor=actor, at=now)
            for sku, change in changes.items()
        )
    return changes


def _open_batch(alias: str, skus: Collection[str], *, units: int, now: datetime) -> int:
    while True:
        present = set(Stock.objects.using(alias).filter(sku__in=skus).values_list("sku", flat=True))
        missing = sorted(set(skus) - present)
        if not missing:
            return 0
        try:
            with transaction.atomic(using=alias):
                Stock.objects.using(alias).bulk_create(Stock(sku=sku, on_hand=units) for sku in missing)
                Movement.objects.using(alias).bulk_create(
                    Movement(sku=sku, kind=MovementKind.OPENING, quantity=units, actor="system", at=now)
                    for sku in missing
                )
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise
        else:
            return len(missing)


def _by_alias(skus: Collection[str]) -> Mapping[str, list[str]]:
    by_alias: dict[str, list[str]] = {}
    for sku in sorted(set(skus)):
        by_alias.setdefault(places.place_of_sku(sku), []).append(sku)
    return by_alias
