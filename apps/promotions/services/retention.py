"""Clearing what is kept of sales and coupons that ended long ago, in deletes small enough to disturb nobody."""

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
    CouponClaim,
    CouponTemplate,
    FlashSale,
    HeldCouponRow,
    Purchase,
    TransferReceipt,
    TransferRow,
)
from infra.events.retention import delete_older

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


def _delete(alias: str, table: str, key: int, *, column: str = "sale_id") -> bool:
    stop_at = time.monotonic() + settings.PURGE_DEADLINE_S
    while time.monotonic() < stop_at:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE {column} = %s LIMIT %s",  # noqa: S608 - names of our tables
                [key, settings.PURGE_BATCH_ROWS],
            )
            if cursor.rowcount < settings.PURGE_BATCH_ROWS:
                return True
        time.sleep(_PAUSE_S)
    return False


def purge_coupons(alias: str, *, now: datetime) -> int:
    """Delete a shard's coupons, used or not, that ended longer ago than they are kept; returns how many."""
    before = now - timedelta(days=settings.COUPON_RETENTION_DAYS)
    return delete_older(alias, table=HeldCouponRow._meta.db_table, column="expires_at", before=before)


def purge_claims(*, now: datetime) -> int:
    """Delete the claims of coupon templates that ended longer ago than they are kept; returns of how many templates.

    The templates stay, marked first: the audit then leaves their counters alone. Resumable, and throttled.
    """
    before = now - timedelta(days=settings.COUPON_RETENTION_DAYS)
    over = CouponTemplate.objects.using(_ALIAS).filter(ends_at__lt=before)
    over.filter(purged_at__isnull=True).update(purged_at=now)
    left = CouponClaim.objects.using(_ALIAS).filter(template_id__in=over.values("id"))
    template_ids = list(left.values_list("template_id", flat=True).distinct()[:1000])
    return sum(
        _delete(_ALIAS, CouponClaim._meta.db_table, template_id, column="template_id") for template_id in template_ids
    )
