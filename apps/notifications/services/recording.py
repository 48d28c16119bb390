"""Appending events to a shard's log, and owing their deliveries, in one transaction with the inbox."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, connections, transaction

from apps.notifications.domain import event_body
from apps.notifications.models import LogHead
from apps.notifications.selectors import audience
from apps.notifications.types import Interest
from infra.events.envelope import Envelope
from infra.events.inbox import first_time
from infra.mysql.errors import is_duplicate_key
from infra.sharding.places import place_of_slot, shard_atomic

GROUP: Final = "notifications"
HEAD_ID: Final = 1


def record_events(envelopes: Sequence[Envelope], *, now: datetime) -> int:
    """Append events of one shard to its log and owe a delivery to each subscription that wants them; returns how many.

    Where there is no subscription at all, nobody could read them, and nothing is written (EVENTS_LOG_ALWAYS).

    Each event once, whatever comes again (inbox). Concurrency: consumers of different partitions append to the same log
    at once; each holds the lock of the log's head from before its first row until its commit, so positions are in the
    order of the commits, and who has read up to one never misses a lower one. Raises InboxRace, and the database's
    errors, after which nothing was written.
    """
    alias = place_of_slot(envelopes[0].slot).alias
    told = audience()
    if not (told.is_there or settings.EVENTS_LOG_ALWAYS):
        return 0
    _make_head(alias, now)
    with shard_atomic(alias, {envelope.slot for envelope in envelopes}):
        fresh = first_time(alias, GROUP, envelopes, now=now)
        if fresh:
            first, logged_at = _advance_head(alias, len(fresh))
            _append(alias, fresh, first=first, logged_at=logged_at)
            _owe(alias, fresh, told.interests, first=first, now=now)
    return len(fresh)


def _advance_head(alias: str, count: int) -> tuple[int, Any]:
    """Take the next positions, and with them the lock on the log until the commit; returns the first, and the time.

    The time is the database's, and never goes back, so that positions and times are in the same order.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_log_head SET position = position + %s, "
            "moved_at = GREATEST(moved_at, UTC_TIMESTAMP(6)) WHERE id = %s",
            [count, HEAD_ID],
        )
        cursor.execute("SELECT position, moved_at FROM notifications_log_head WHERE id = %s", [HEAD_ID])
        position, moved_at = cursor.fetchone()
    return position - count + 1, moved_at


def _append(alias: str, envelopes: Sequence[Envelope], *, first: int, logged_at: Any) -> None:
    parameters = [
        value
        for position, envelope in enumerate(envelopes, start=first)
        for value in (position, envelope.event_id, envelope.type, logged_at, event_body(envelope).decode())
    ]
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_event (position, event_id, type, logged_at, body) VALUES "  # noqa: S608 - constants
            + ", ".join(["(%s, %s, %s, %s, %s)"] * len(envelopes)),
            parameters,
        )


def _owe(
    alias: str, envelopes: Sequence[Envelope], interests: Sequence[Interest], *, first: int, now: datetime
) -> None:
    wanted = [
        (position, interest.subscription_id)
        for position, envelope in enumerate(envelopes, start=first)
        for interest in interests
        if interest.covers(envelope.type)
    ]
    owe_deliveries(alias, wanted, now=now)


def owe_deliveries(alias: str, wanted: Sequence[tuple[int, int]], *, now: datetime) -> None:
    """Write or renew the deliveries of (position, subscription) pairs, due at once, in the open transaction.

    One that exists begins anew; a sender that has it at the moment can then no longer write its outcome.
    """
    if not wanted:
        return
    connection = connections[alias]
    at = connection.ops.adapt_datetimefield_value(now)
    keep_until = connection.ops.adapt_datetimefield_value(now + timedelta(days=settings.EVENTS_LOG_RETENTION_DAYS))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_delivery (position, subscription_id, state, attempt_count, due_at, lease, "  # noqa: S608 - constants
            "last_error, created_at, keep_until) VALUES "
            + ", ".join(["(%s, %s, 'pending', 0, %s, '', '', %s, %s)"] * len(wanted))
            + " ON DUPLICATE KEY UPDATE state = 'pending', attempt_count = 0, due_at = %s, lease = '', "
            "last_status = NULL, last_error = '', created_at = %s, ended_at = NULL, keep_until = %s",
            [*(value for pair in wanted for value in (*pair, at, at, keep_until)), at, at, keep_until],
        )


def _make_head(alias: str, now: datetime) -> None:
    """Make the row of a log's head where there is none yet."""
    if LogHead.objects.using(alias).filter(id=HEAD_ID).exists():
        return
    try:
        with transaction.atomic(using=alias):
            LogHead(id=HEAD_ID, position=0, moved_at=now, purged_through=0).save(using=alias, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
