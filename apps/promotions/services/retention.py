"""Clearing what the databases keep of sales that were closed long ago, in deletes small enough to disturb nobody."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connections

from apps.promotions.models import (
    AllotmentRow,
    Claim,
    ClaimState,
    FlashSale,
    Purchase,
    TransferReceipt,
    TransferRow,
)

_ALIAS: Final = "promotions"
_PAUSE_S: Final = 0.05
# On a shard; in the databases of stock only the last two.
_SHARD_TABLES: Final = (Claim, Purchase, AllotmentRow, TransferReceipt, TransferRow)
_STOCK_TABLES: Final = (TransferReceipt, TransferRow)


def begin_purge(*, now: datetime, limit: int = 1000) -> Iterator[int]:
    """Yield sales whose retention is over, oldest first, each marked before: the audit then leaves its sums alone."""
    before = now - timedelta(days=settings.FLASH_SALE_RETENTION_DAYS)
    rows = FlashSale.objects.using(_ALIAS).filter(closed_at__lt=before, purged_at__isnull=True)
    for sale_id in list(rows.order_by("closed_at").values_list("id", flat=True)[:limit]):
        rows.filter(id=sale_id, purging_since__isnull=True).update(purging_since=now)
        yield sale_id


def purge_on_shard(alias: str, sale_id: int) -> bool:
    """Delete a shard's rows of a sale; False when the time was over first, or an order of it is still undecided."""
    undecided = Claim.objects.on_shard(alias).filter(sale_id=sale_id, state__in=(ClaimState.HELD, ClaimState.SETTLING))
    if undecided.exists():
        return False
    return all(_delete(alias, model._meta.db_table, sale_id) for model in _SHARD_TABLES)


def purge_in_stock(alias: str, sale_id: int) -> bool:
    """Delete the transfers and receipts of a sale in a database of stock; False when the time was over first."""
    return all(_delete(alias, model._meta.db_table, sale_id) for model in _STOCK_TABLES)


def finish_purge(sale_id: int, *, now: datetime) -> None:
    """Note that nothing is left of a sale but its own row."""
    FlashSale.objects.using(_ALIAS).filter(id=sale_id).update(purged_at=now)


def _delete(alias: str, table: str, sale_id: int) -> bool:
    stop_at = time.monotonic() + settings.PURGE_DEADLINE_S
    while time.monotonic() < stop_at:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE sale_id = %s LIMIT %s",  # noqa: S608 - names of our tables
                [sale_id, settings.PURGE_BATCH_ROWS],
            )
            if cursor.rowcount < settings.PURGE_BATCH_ROWS:
                return True
        time.sleep(_PAUSE_S)
    return False
