"""Celery tasks of the idempotency keys."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from infra.followups.rounds import shard_round
from infra.idempotency.services import purge_old_keys


@shared_task(name="idempotency.purge_keys")
def purge_keys() -> None:
    """Delete the keys whose time is over, on every shard."""
    now = timezone.now()
    retention = timedelta(days=settings.IDEMPOTENCY_RETENTION_DAYS)
    shard_round("purge of idempotency keys", lambda alias: purge_old_keys(alias, now=now, retention=retention))
