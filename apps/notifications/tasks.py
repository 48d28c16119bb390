"""Celery tasks of notifications, run by beat (config/settings/celery.py)."""

from celery import shared_task
from django.utils import timezone

from apps.notifications.services.replays import drive_replays
from apps.notifications.services.retention import purge_deliveries, purge_log
from infra.followups.rounds import shard_round


@shared_task(name="notifications.drive_replays")
def drive_open_replays() -> None:
    """Owe the deliveries of replays that the staff asked for."""
    drive_replays(now=timezone.now())


@shared_task(name="notifications.purge")
def purge() -> None:
    """Delete logged events and deliveries whose retention is over, on every shard."""
    now = timezone.now()
    shard_round("purge of deliveries", lambda alias: purge_deliveries(alias, now=now))
    shard_round("purge of the events log", lambda alias: purge_log(alias, now=now))
