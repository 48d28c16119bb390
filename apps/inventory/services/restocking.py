"""Units that come back into stock for a reason of their own, such as a buyer's return: once for each reference."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from apps.inventory import places, statements
from apps.inventory.errors import UnknownSku
from apps.inventory.models import Movement, MovementKind, Restocking
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry


def restock_by_reference(reference: str, units: Mapping[str, int], *, order_id: int, now: datetime) -> int:
    """Put units back on hand under a reference; return how many came back by this call.

    Idempotent: what has come back under a reference does not come again, whatever units are named then. Raises
    UnknownSku. Concurrency: of several calls at once one counts, by the primary key.
    """
    by_alias: dict[str, dict[str, int]] = {}
    for sku, count in sorted(units.items()):
        by_alias.setdefault(places.place_of_sku(sku), {})[sku] = count
    return sum(
        with_deadlock_retry(partial(_restock, alias, reference, there, order_id=order_id, now=now))
        for alias, there in by_alias.items()
    )


def _restock(alias: str, reference: str, units: Mapping[str, int], *, order_id: int, now: datetime) -> int:
    try:
        with transaction.atomic(using=alias):
            Restocking.objects.using(alias).bulk_create(
                Restocking(reference=reference, sku=sku, order_id=order_id, quantity=count, at=now)
                for sku, count in units.items()
            )
            if statements.add_on_hand(alias, units) != len(units):
                raise UnknownSku(units)
            Movement.objects.using(alias).bulk_create(
                Movement(
                    sku=sku,
                    kind=MovementKind.RESTOCK,
                    quantity=count,
                    reason=reference,
                    actor="system",
                    order_id=order_id,
                    at=now,
                )
                for sku, count in units.items()
            )
    except IntegrityError as error:
        if is_duplicate_key(error):
            return 0
        raise
    return sum(units.values())
