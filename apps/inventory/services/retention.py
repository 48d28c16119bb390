"""Clearing of closed reservations and old movements, in small throttled deletes."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connections

from apps.inventory import places
from apps.inventory.models import Movement, Reservation, ReservationState
from infra.mysql.retry import with_deadlock_retry

_BATCH_SIZE: Final = 1000
_PAUSE_S: Final = 0.05
_ENDED: Final = (ReservationState.RELEASED, ReservationState.RESTOCKED)


def purge_closed_reservations(*, now: datetime, limit: int = 100_000) -> int:
    """Delete reservations whose retention is over, at most `limit` of them; return how many.

    Released and restocked ones go after `INVENTORY_CLOSED_RETENTION_DAYS`, settled ones, which a refund may still
    restock, after `INVENTORY_SETTLED_RETENTION_DAYS`. Open ones are never touched.
    """
    ended_before = now - timedelta(days=settings.INVENTORY_CLOSED_RETENTION_DAYS)
    settled_before = now - timedelta(days=settings.INVENTORY_SETTLED_RETENTION_DAYS)
    purged = 0
    for alias in places.inventory_aliases():
        for states, before in ((_ENDED, ended_before), ((ReservationState.SETTLED,), settled_before)):
            for state in states:

                def delete_batch(alias: str = alias, state: int = state, before: datetime = before) -> int:
                    return _delete_reservations(alias, state=state, before=before)

                purged += _in_batches(delete_batch, limit=limit - purged)
    return purged


def purge_movements(*, now: datetime, limit: int = 100_000) -> int:
    """Delete movements older than `INVENTORY_MOVEMENT_RETENTION_DAYS`, at most `limit`; return how many."""
    before = now - timedelta(days=settings.INVENTORY_MOVEMENT_RETENTION_DAYS)
    purged = 0
    for alias in places.inventory_aliases():

        def delete_batch(alias: str = alias) -> int:
            rows = Movement.objects.using(alias)
            ids = list(rows.filter(at__lt=before).order_by("at").values_list("id", flat=True)[:_BATCH_SIZE])
            return rows.filter(id__in=ids).delete()[0] if ids else 0

        purged += _in_batches(delete_batch, limit=limit - purged)
    return purged


def purge_restockings(*, now: datetime, limit: int = 100_000) -> int:
    """Delete what came back by reference longer ago than movements are kept, at most `limit`; return how many."""
    before = now - timedelta(days=settings.INVENTORY_MOVEMENT_RETENTION_DAYS)
    purged = 0
    for alias in places.inventory_aliases():

        def delete_batch(alias: str = alias) -> int:
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    "DELETE FROM inventory_restocking WHERE at < %s ORDER BY at LIMIT %s",
                    [connections[alias].ops.adapt_datetimefield_value(before), _BATCH_SIZE],
                )
                return cursor.rowcount

        purged += _in_batches(delete_batch, limit=limit - purged)
    return purged


def _delete_reservations(alias: str, *, state: int, before: datetime) -> int:
    """Delete a batch by primary key, read without locks, so that no other transaction is waited for in odd order."""
    keys = list(
        Reservation.objects.using(alias)
        .filter(state=state, updated_at__lt=before)
        .order_by("updated_at")
        .values_list("slot", "order_id", "sku")[:_BATCH_SIZE]
    )
    if not keys:
        return 0
    condition = " OR ".join(["(slot = %s AND order_id = %s AND sku = %s)"] * len(keys))
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"DELETE FROM inventory_reservation WHERE ({condition}) AND state = {state:d}",  # noqa: S608
            [part for key in sorted(keys) for part in key],
        )
        return cursor.rowcount


def _in_batches(delete_batch: Callable[[], int], *, limit: int) -> int:
    """Delete batch after batch with a pause, until one comes up short of a full batch."""
    deleted = 0
    while deleted < limit:
        count = with_deadlock_retry(delete_batch)
        deleted += count
        if count < _BATCH_SIZE:
            break
        time.sleep(_PAUSE_S)
    return deleted
