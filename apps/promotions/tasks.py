"""Celery tasks of promotions: retention, run by beat (config/settings/celery.py)."""

from celery import shared_task
from django.utils import timezone

from apps.promotions.services import purge_tickets
from infra.followups.rounds import shard_round


@shared_task(name="promotions.purge_tickets")
def purge_old_tickets() -> None:
    """Delete how tickets ended whose retention is over, on every shard."""
    now = timezone.now()
    shard_round("purge of tickets", lambda alias: purge_tickets(alias, now=now))
