"""Celery tasks of payments' own tables; polls and refunds move orders too and are tasks of orders."""

from celery import shared_task
from django.utils import timezone

from apps.payments.services import purge_callbacks
from infra.sharding.places import shard_aliases


@shared_task(name="payments.purge_callbacks")
def purge_old_callbacks() -> None:
    """Delete deliveries that are older than their retention."""
    for alias in shard_aliases():
        purge_callbacks(alias, now=timezone.now())
