"""Sets counters right that somebody changed by hand; `audit --repair` asks for it."""

from collections.abc import Collection
from functools import partial

from django.db import transaction
from django.db.models import F, Sum

from apps.inventory import locks, places
from apps.inventory.models import Reservation, ReservationState, Stock
from infra.mysql.retry import with_deadlock_retry


def recount_reserved(skus: Collection[str]) -> int:
    """Set `reserved` of each SKU to what its open reservations hold; return how many rows changed.

    Under the lock of the stock row, which every claim and every closing takes too, so it is safe beside them. Raises
    a database error where more is held than there is on hand: that is for the staff to adjust.
    """
    return sum(with_deadlock_retry(partial(_recount, sku)) for sku in sorted(skus))


def _recount(sku: str) -> int:
    alias = places.place_of_sku(sku)
    open_rows = Reservation.objects.using(alias).filter(
        sku=sku, state__in=(ReservationState.HELD, ReservationState.CONFIRMED)
    )
    with transaction.atomic(using=alias):
        locks.lock_stock(alias, [sku])
        held = open_rows.aggregate(held=Sum("quantity"))["held"] or 0
        rows = Stock.objects.using(alias).filter(sku=sku).exclude(reserved=held)
        return rows.update(reserved=held, version=F("version") + 1)
