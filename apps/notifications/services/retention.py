"""Clearing the log of events that are no longer kept, and deliveries that need no longer be shown."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Greatest

from apps.notifications.models import LoggedEvent, LogHead
from infra.events.retention import delete_older


def purge_log(alias: str, *, now: datetime) -> int:
    """Delete a shard's events whose retention is over; returns how many.

    The head says first up to where: a reader that was further behind is then told so, instead of missing them. Times
    and positions of a log are in the same order. What a run leaves over, the next one deletes.
    """
    before = now - timedelta(days=settings.EVENTS_LOG_RETENTION_DAYS)
    last = (
        LoggedEvent.objects.using(alias)
        .filter(logged_at__lt=before)
        .order_by("-logged_at", "-position")
        .values_list("position", flat=True)
        .first()
    )
    if last is None:
        return 0
    LogHead.objects.using(alias).update(purged_through=Greatest(F("purged_through"), last))
    return delete_older(alias, table="notifications_event", column="logged_at", before=before)


def purge_deliveries(alias: str, *, now: datetime) -> int:
    """Delete a shard's deliveries that need no longer be kept; returns how many."""
    return delete_older(alias, table="notifications_delivery", column="keep_until", before=now)
