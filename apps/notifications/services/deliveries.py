"""Claiming deliveries that are due, writing what came of them, and trying one again at the staff's word."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connections, transaction

from apps.notifications import metrics
from apps.notifications.domain import next_attempt_at
from apps.notifications.models import Delivery, DeliveryState
from apps.notifications.services.recording import owe_deliveries
from apps.notifications.types import DueDelivery, Outcome, Target

_LEASE_BYTES: Final = 8
_EVENT_GONE: Final = "the event is no longer kept"


@dataclass(frozen=True, slots=True)
class _Ending:
    """What is written of a delivery after a try."""

    state: DeliveryState
    due_at: datetime | None
    ended_at: datetime | None
    keep_until: datetime | None


def claim_due(alias: str, places: Mapping[Target, int], *, now: datetime) -> list[DueDelivery]:
    """Claim due deliveries of a shard: of each subscription as many as there are places for it, longest due first.

    Compare-and-set: a delivery that another sender has claimed meanwhile is no longer due, and is left to it. A claim
    holds for WEBHOOK_LEASE_S seconds by the database's clock; if its holder dies, the delivery is due again then.
    """
    wanted = {target.id: (target, count) for target, count in places.items() if count > 0}
    if not wanted:
        return []
    with connections[alias].cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                ["(SELECT position, subscription_id FROM notifications_delivery WHERE subscription_id = %s "
                 "AND due_at <= UTC_TIMESTAMP(6) ORDER BY due_at LIMIT %s)"] * len(wanted)
            ),
            [value for target_id, (_, count) in wanted.items() for value in (target_id, count)],
        )  # fmt: skip
        due = list(cursor.fetchall())
        if not due:
            return []
        lease = secrets.token_hex(_LEASE_BYTES)
        lease_ends_at = time.monotonic() + settings.WEBHOOK_LEASE_S
        cursor.execute(
            "UPDATE notifications_delivery FORCE INDEX (PRIMARY) "  # noqa: S608 - constants
            "SET lease = %s, due_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND "
            f"WHERE due_at <= UTC_TIMESTAMP(6) AND ({_keys(due)})",
            [lease, int(settings.WEBHOOK_LEASE_S * 1_000_000), *(value for key in due for value in key)],
        )
        cursor.execute(
            "SELECT d.position, d.subscription_id, e.event_id, e.body, d.attempt_count, d.created_at "  # noqa: S608 - constants
            "FROM notifications_delivery d LEFT JOIN notifications_event e ON e.position = d.position "
            f"WHERE d.lease = %s AND ({_keys(due, 'd.')})",
            [lease, *(value for key in due for value in key)],
        )
        claimed = list(cursor.fetchall())
    _bury_without_event(alias, lease, [row[:2] for row in claimed if row[3] is None], now=now)
    return [
        DueDelivery(
            alias=alias,
            position=position,
            target=wanted[subscription_id][0],
            event_id=event_id,
            body=body,
            attempt_count=attempt_count,
            created_at=_aware(alias, created_at),
            lease=lease,
            lease_ends_at=lease_ends_at,
        )
        for position, subscription_id, event_id, body, attempt_count, created_at in claimed
        if body is not None
    ]


def settle(alias: str, results: Sequence[tuple[DueDelivery, Outcome]], *, now: datetime) -> int:
    """Write what came of deliveries of a shard, in one transaction; returns how many were still this sender's.

    Compare-and-set on the lease: what another sender has taken over, or a replay has begun anew, is left alone.
    """
    written_count = dead_count = 0
    with transaction.atomic(using=alias):
        for delivery, outcome in results:
            ending = _ending(delivery, outcome, now=now)
            changes: dict[str, Any] = {
                "state": ending.state,
                "attempt_count": delivery.attempt_count + 1,
                "due_at": ending.due_at,
                "lease": "",
                "last_status": outcome.status,
                "last_error": outcome.error,
                "ended_at": ending.ended_at,
            }
            if ending.keep_until is not None:
                changes["keep_until"] = ending.keep_until
            is_ours = (
                Delivery.objects.using(alias)
                .filter(position=delivery.position, subscription_id=delivery.target.id, lease=delivery.lease)
                .update(**changes)
            )
            written_count += is_ours
            dead_count += is_ours if ending.state == DeliveryState.DEAD else 0
    metrics.DEAD.inc(dead_count)
    return written_count


def try_again(alias: str, *, position: int, subscription_id: int, now: datetime) -> bool:
    """Have a delivery begin anew, at once, whatever became of it; False if there is none or its event is gone."""
    rows = Delivery.objects.using(alias).filter(position=position, subscription_id=subscription_id)
    with transaction.atomic(using=alias):
        if not rows.exists():
            return False
        owe_deliveries(alias, [(position, subscription_id)], now=now)
    return True


def _ending(delivery: DueDelivery, outcome: Outcome, *, now: datetime) -> _Ending:
    if outcome.succeeded:
        keep_until = now + timedelta(hours=settings.WEBHOOK_DELIVERED_RETENTION_H)
        return _Ending(DeliveryState.DELIVERED, due_at=None, ended_at=now, keep_until=keep_until)
    again_at = next_attempt_at(
        attempt_count=delivery.attempt_count + 1,
        first_at=delivery.created_at,
        retry_after=outcome.retry_after,
        period=settings.WEBHOOK_RETRY_PERIOD,
        now=now,
    )
    if again_at is None:
        return _Ending(DeliveryState.DEAD, due_at=None, ended_at=now, keep_until=None)
    return _Ending(DeliveryState.PENDING, due_at=again_at, ended_at=None, keep_until=None)


def _bury_without_event(alias: str, lease: str, keys: Sequence[tuple[int, int]], *, now: datetime) -> None:
    """End claimed deliveries whose event has been purged from the log: there is nothing to send any more."""
    for position, subscription_id in keys:
        Delivery.objects.using(alias).filter(position=position, subscription_id=subscription_id, lease=lease).update(
            state=DeliveryState.DEAD, due_at=None, lease="", last_error=_EVENT_GONE, ended_at=now
        )


def _keys(keys: Sequence[tuple[int, int]], prefix: str = "") -> str:
    """Return the condition of so many keys, as a chain of ORs, which both servers turn into one range for each."""
    return " OR ".join([f"({prefix}position = %s AND {prefix}subscription_id = %s)"] * len(keys))


def _aware(alias: str, at: datetime) -> datetime:
    return at.replace(tzinfo=connections[alias].timezone) if at.tzinfo is None else at
