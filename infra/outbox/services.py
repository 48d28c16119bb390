"""Appending facts to the outbox and clearing what was sent."""

import os
from datetime import datetime
from typing import Final

import msgspec
from django.db import connections

from infra.events.retention import delete_older
from infra.mysql.literals import moment, text, word
from infra.observability.scope import current_scope
from infra.outbox.errors import AppendOutsideTransaction
from infra.outbox.types import NO_USER, EventDraft
from infra.sharding.ids import slot_of
from infra.sharding.places import Place, shard_aliases
from infra.sharding.slots import slot_of_user

_COLUMNS: Final = (
    "event_id, type, schema_version, aggregate, aggregate_id, aggregate_version, "
    "slot, user_id, order_id, occurred_at, payload, headers"
)
_encode: Final = msgspec.json.Encoder().encode
# Rows of one statement: far below max_allowed_packet, and more than a group commit's batch.
_MAX_ROWS: Final = 500


def outbox_aliases() -> tuple[str, ...]:
    """Return the databases that have an outbox, and a relay each."""
    return ("promotions", *shard_aliases())


def append(place_or_alias: Place | str, *drafts: EventDraft, now: datetime) -> None:
    """Write events beside the fact that they tell, in one INSERT; they leave after the commit.

    Call it inside the fact's transaction and after the compare-and-set on the aggregate: the row lock taken there is
    what makes one aggregate's events take their ids in the order of its versions. Events of one aggregate in one call
    are published in the order of the arguments. Raises AppendOutsideTransaction.
    """
    alias = place_or_alias if isinstance(place_or_alias, str) else place_or_alias.alias
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise AppendOutsideTransaction(f"An event was appended on {alias} outside a transaction; it tells no fact.")
    headers = request_headers()
    occurred_at = moment(now)
    event_ids = new_event_ids(len(drafts), now)
    with connection.cursor() as cursor:
        for start in range(0, len(drafts), _MAX_ROWS):
            chunk = drafts[start : start + _MAX_ROWS]
            rows = [
                _row(draft, event_id, occurred_at, headers)
                for draft, event_id in zip(chunk, event_ids[start:], strict=False)
            ]
            cursor.execute(f"INSERT INTO outbox_event ({_COLUMNS}) VALUES {','.join(rows)}")  # noqa: S608 - literals


def purge_sent(alias: str, *, before: datetime) -> int:
    """Delete events that were sent before a moment; returns how many.

    Safe beside the relay, which reads unsent rows only (a bus that is being fed again gets what is still there).
    """
    return delete_older(alias, table="outbox_event", column="sent_at", before=before)


def new_event_ids(count: int, now: datetime) -> list[str]:
    """Return ids in the layout of a UUID version 7 (RFC 9562), as 32 hex digits.

    They begin with the time, so that neighbours in time are neighbours in the index of the inbox.
    """
    prefix = f"{int(now.timestamp() * 1000):012x}"
    noise = os.urandom(10 * count).hex()
    return [
        f"{prefix}7{noise[at : at + 3]}{'89ab'[int(noise[at + 3], 16) & 3]}{noise[at + 4 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]


def _row(draft: EventDraft, event_id: str, occurred_at: str, headers: str) -> str:
    if draft.order_id is not None:
        slot = slot_of(draft.order_id)
    else:
        slot = slot_of_user(draft.aggregate_id if draft.user_id == NO_USER else draft.user_id)
    return (
        f"({text(event_id)},{word(draft.type)},{draft.schema_version:d},{word(draft.aggregate)},{draft.aggregate_id:d},"
        f"{draft.version:d},{slot:d},{draft.user_id:d},{'NULL' if draft.order_id is None else draft.order_id},"
        f"{occurred_at},{text(_encode(draft.payload).decode())},{text(draft.headers or headers)})"
    )


def request_headers() -> str:
    """Return what ties an event to the request being served, which caused it: its id and a W3C traceparent."""
    scope = current_scope()
    if scope is None:
        return "{}"
    # Neither id holds anything that JSON would escape (infra/observability/scope.py).
    return f'{{"request_id":"{scope.request_id}","traceparent":"00-{scope.trace_id}-{os.urandom(8).hex()}-01"}}'
