"""Celery tasks of promotions: half-done claims, expiry and retention, run by beat (config/settings/celery.py)."""

from celery import shared_task
from django.utils import timezone

from apps.promotions.points.services import expire_lots
from apps.promotions.services import purge_claims, purge_coupons, purge_tickets, settle_claims
from infra.followups.rounds import shard_round


@shared_task(name="promotions.purge_tickets")
def purge_old_tickets() -> None:
    """Delete how tickets ended whose retention is over, on every shard."""
    now = timezone.now()
    shard_round("purge of tickets", lambda alias: purge_tickets(alias, now=now))


@shared_task(name="promotions.settle_claims")
def settle_overdue_claims() -> None:
    """End the claims of coupons that a killed process, or a shard that was away, has left half done."""
    settle_claims(now=timezone.now())


@shared_task(name="promotions.purge_coupons")
def purge_old_coupons() -> None:
    """Delete coupons, and the claims of templates, whose retention is over."""
    now = timezone.now()
    shard_round("purge of coupons", lambda alias: purge_coupons(alias, now=now))
    purge_claims(now=now)


@shared_task(name="promotions.expire_points")
def expire_points() -> None:
    """Expire the points whose day has come, on every shard."""
    now = timezone.now()
    shard_round("expiry of points", lambda alias: expire_lots(alias, now=now))
