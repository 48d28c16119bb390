"""The inbox: which events a group has had its effect of, kept where the effect lands."""

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, connections

from infra.events.envelope import Envelope
from infra.events.retention import delete_older
from infra.mysql.errors import is_duplicate_key


class InboxRace(Exception):
    """Another consumer has just taken one of these events; roll back and read again."""


class InboxOutsideTransaction(RuntimeError):
    """The inbox was asked without the transaction of the effect."""


def first_time(alias: str, group: str, envelopes: Sequence[Envelope], *, now: datetime) -> list[Envelope]:
    """Return the events that this group has not had here, in their order, and remember them with the effect.

    Call it first in the effect's transaction on `alias`: if that rolls back, the events are new again. Concurrency: a
    consumer that takes the same event at the same time waits for this transaction and then raises InboxRace, which the
    consumers' loop answers by trying the batch again. Raises InboxOutsideTransaction.
    """
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise InboxOutsideTransaction(f"The inbox of {group} on {alias} was asked outside a transaction.")
    by_id = {bytes.fromhex(envelope.event_id): envelope for envelope in reversed(envelopes)}
    if not by_id:
        return []
    ids = sorted(by_id)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT event_id FROM events_inbox WHERE event_id IN ({', '.join(['%s'] * len(ids))}) AND group_name = %s",  # noqa: S608 - constants
            [*ids, group],
        )
        seen = {bytes(row[0]) for row in cursor.fetchall()}
        new = [event_id for event_id in ids if event_id not in seen]
        if new:
            seen_at = connection.ops.adapt_datetimefield_value(now)
            try:
                cursor.execute(
                    "INSERT INTO events_inbox (event_id, group_name, seen_at) VALUES "  # noqa: S608 - constants
                    + ", ".join(["(%s, %s, %s)"] * len(new)),
                    [value for event_id in new for value in (event_id, group, seen_at)],
                )
            except IntegrityError as error:
                if not is_duplicate_key(error):
                    raise
                raise InboxRace(f"An event of this batch was taken elsewhere by {group}.") from error
    fresh = {by_id[event_id].event_id for event_id in new}
    return [envelope for envelope in {item.event_id: item for item in envelopes}.values() if envelope.event_id in fresh]


def purge_inbox(alias: str, *, before: datetime) -> int:
    """Delete entries older than a moment; returns how many.

    Nothing may come again that is older: the retention exceeds the outbox's.
    """
    return delete_older(alias, table="events_inbox", column="seen_at", before=before)
