"""Deletes what is over: expired sessions, rows of the feed that no token needs, codes and messages."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet

from apps.users.models import CodeSending, OneTimeCode, SentMessage, Session, SessionEnd, Verification

_BATCH_ROWS: Final = 1000
_MAX_BATCHES: Final = 50
_KEEP_CODES: Final = timedelta(days=1)


def purge_shard(*, alias: str, now: datetime) -> int:
    """Delete, in small batches, what has expired on a shard; returns how many rows.

    A session is kept until its refresh tokens have expired, so that a late reuse is still told as one. A row of the
    feed is kept twice as long as any access token lives.
    """
    lifetime_s = max(settings.ACCESS_TOKEN_LIFETIME_S, settings.BENCH_TOKEN_LIFETIME_S)
    return _delete_sessions(alias, before=now) + _delete_ends(alias, before=now - timedelta(seconds=2 * lifetime_s))


def purge_directory(*, now: datetime) -> int:
    """Delete codes that expired a day ago, and what is kept as long of those sent; returns how many rows."""
    before = now - _KEEP_CODES
    return (
        _delete_rows(Verification.objects.filter(expires_at__lt=before, accepted_at__isnull=True), "expires_at")
        + _delete_rows(OneTimeCode.objects.filter(expires_at__lt=before), "expires_at")
        + _delete_rows(CodeSending.objects.filter(sent_at__lt=before), "sent_at")
        + _delete_rows(SentMessage.objects.filter(sent_at__lt=before), "sent_at")
    )


def _delete_rows(old: QuerySet[Any], oldest_by: str) -> int:
    deleted_count = 0
    for _ in range(_MAX_BATCHES):
        ids = list(old.order_by(oldest_by).values_list("id", flat=True)[:_BATCH_ROWS])
        if not ids:
            break
        # Asked again: a code may have been accepted just now.
        deleted_count += old.filter(id__in=ids).delete()[0]
    return deleted_count


def _delete_sessions(alias: str, *, before: datetime) -> int:
    deleted_count = 0
    for _ in range(_MAX_BATCHES):
        rows = Session.objects.on_shard(alias).filter(expires_at__lt=before).order_by("expires_at")
        keys = list(rows.values_list("slot", "user_id", "id")[:_BATCH_ROWS])
        if not keys:
            break
        # Asked again: a refresh that came just before its expiry has moved it on.
        deleted_count += Session.objects.on_shard(alias).filter(pk__in=keys, expires_at__lt=before).delete()[0]
    return deleted_count


def _delete_ends(alias: str, *, before: datetime) -> int:
    deleted_count = 0
    for _ in range(_MAX_BATCHES):
        rows = SessionEnd.objects.on_shard(alias).filter(ended_at__lt=before).order_by("ended_at")
        keys = list(rows.values_list("slot", "session_id")[:_BATCH_ROWS])
        if not keys:
            break
        deleted_count += SessionEnd.objects.on_shard(alias).filter(pk__in=keys).delete()[0]
    return deleted_count
