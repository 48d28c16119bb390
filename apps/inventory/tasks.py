"""Celery tasks of the inventory: retention, run by beat (config/settings/celery.py)."""

from celery import shared_task
from django.utils import timezone

from apps.inventory.services.retention import purge_closed_reservations, purge_movements, purge_restockings


@shared_task(name="inventory.purge_reservations")
def purge_reservations() -> None:
    """Delete closed reservations whose retention is over."""
    purge_closed_reservations(now=timezone.now())


@shared_task(name="inventory.purge_movements")
def purge_old_movements() -> None:
    """Delete stock movements whose retention is over, and what came back by reference."""
    purge_movements(now=timezone.now())
    purge_restockings(now=timezone.now())
