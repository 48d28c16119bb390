"""Scheduling follow-ups with the fact that owes them, reading what is due, and settling it.

The promise: whoever commits a fact that needs more work schedules a follow-up in the same transaction, and a task reads
what is due. No message has to arrive for the work to be done; messages only make it sooner.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connections

from infra.followups.models import FollowUpRow
from infra.followups.types import FollowUp
from infra.sharding.places import Place, shard_atomic

_MAX_ERROR_LENGTH: Final = 200
_LOOKED_AT: Final = 20


def schedule(place: Place, *, kind: str, order_id: int, due_at: datetime, now: datetime, n: int = 0) -> None:
    """Owe work to an order; call it inside the transaction of the fact.

    If the same work is already owed, the row's version rises (a drainer that has read the older version cannot settle
    it any more) and the earlier of both due times holds.
    """
    connection = connections[place.alias]
    due, created = (connection.ops.adapt_datetimefield_value(moment) for moment in (due_at, now))
    with place.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO followups_followup "
            "(slot, order_id, kind, n, due_at, attempt_count, version, last_error, created_at) "
            "VALUES (%s, %s, %s, %s, %s, 0, 1, '', %s) "
            "ON DUPLICATE KEY UPDATE version = version + 1, attempt_count = 0, due_at = LEAST(due_at, %s)",
            [place.slot, order_id, kind, n, due, created, due],
        )


def due(alias: str, *, kind: str, now: datetime, limit: int = 500) -> list[FollowUp]:
    """Return what is due on a shard, longest overdue first."""
    rows = FollowUpRow.objects.using(alias).filter(kind=kind, due_at__lte=now).order_by("due_at")[:limit]
    return [_follow_up(alias, row) for row in rows]


def done(follow_up: FollowUp) -> bool:
    """Settle a follow-up; False if new facts have come since it was read, and then it stays due.

    Compare-and-set on the version. Joins the transaction of the effect if one is open on the same shard.
    """
    return done_all([follow_up]) == 1


def done_all(follow_ups: Sequence[FollowUp]) -> int:
    """Settle follow-ups of one shard in one statement; returns how many were unchanged since they were read."""
    if not follow_ups:
        return 0
    alias = _common_alias(follow_ups)
    condition = " OR ".join(
        ["(slot = %s AND order_id = %s AND kind = %s AND n = %s AND version = %s)"] * len(follow_ups)
    )
    parameters = [value for item in follow_ups for value in (item.slot, item.order_id, item.kind, item.n, item.version)]
    with shard_atomic(alias, {item.slot for item in follow_ups}), connections[alias].cursor() as cursor:
        cursor.execute(f"DELETE FROM followups_followup WHERE {condition}", parameters)  # noqa: S608 - constants
        return cursor.rowcount


def postpone(follow_up: FollowUp, *, now: datetime, error: str = "") -> None:
    """Try again later: after 1, 2, 4, ... seconds, never longer than the recovery bound allows.

    Compare-and-set on the version: work that new facts have made due stays due. `error` is shortened and must hold no
    personal data.
    """
    delay_s = min(2.0 ** min(follow_up.attempt_count, 10), settings.FOLLOWUP_MAX_DELAY_S)
    put_off(follow_up, until=now + timedelta(seconds=delay_s), error=error)


def put_off(follow_up: FollowUp, *, until: datetime, error: str = "") -> None:
    """Make a follow-up due again at a stated time (a poll that is not over yet); compare-and-set like `postpone`."""
    with shard_atomic(follow_up.alias, {follow_up.slot}):
        FollowUpRow.objects.using(follow_up.alias).filter(
            slot=follow_up.slot,
            order_id=follow_up.order_id,
            kind=follow_up.kind,
            n=follow_up.n,
            version=follow_up.version,
        ).update(
            due_at=until,
            attempt_count=follow_up.attempt_count + 1,
            last_error=error[:_MAX_ERROR_LENGTH],
        )


def _common_alias(follow_ups: Sequence[FollowUp]) -> str:
    aliases = {item.alias for item in follow_ups}
    if len(aliases) != 1:
        raise ValueError(f"Follow-ups of one shard are settled together, not of {sorted(aliases)}.")
    return aliases.pop()


def failing(alias: str, *, now: datetime, attempts: int, limit: int) -> list[FollowUp]:
    """Return what is due on a shard and has been tried so often without success, longest overdue first.

    Looks at the longest overdue only, so that a backlog of work that has not been tried yet costs no more.
    """
    due_rows = FollowUpRow.objects.using(alias).filter(
        due_at__lte=now + timedelta(seconds=settings.FOLLOWUP_MAX_DELAY_S)
    )
    rows = [row for row in due_rows.order_by("due_at")[: _LOOKED_AT * limit] if row.attempt_count >= attempts]
    return [_follow_up(alias, row) for row in rows[:limit]]


def make_due(alias: str, *, slot: int, order_id: int, kind: str, n: int, now: datetime) -> bool:
    """Have a follow-up tried again at once, as if for the first time; False where nothing is owed any more."""
    with shard_atomic(alias, {slot}):
        rows = FollowUpRow.objects.using(alias).filter(slot=slot, order_id=order_id, kind=kind, n=n)
        return bool(rows.update(due_at=now, attempt_count=0))


def _follow_up(alias: str, row: FollowUpRow) -> FollowUp:
    return FollowUp(
        alias=alias,
        slot=row.slot,
        order_id=row.order_id,
        kind=row.kind,
        n=row.n,
        due_at=row.due_at,
        attempt_count=row.attempt_count,
        version=row.version,
        last_error=row.last_error,
    )
