"""The relay of one database: publishes unsent events in the order of their ids and marks them sent afterwards.

A batch that was published and not marked (the relay died in between) is published again: at least once. A lower id may
be committed after a higher one of another aggregate was sent, so what is unsent is looked up each time, and no position
is kept. An event of one aggregate never passes an earlier one: their ids are in the order of their commits.
"""

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connections, transaction

from infra.events.bus import BusForgot, BusFull, BusUnavailable, Feed, Outgoing, Publisher, PublisherFenced
from infra.events.envelope import encode_row
from infra.events.outages import Outage, is_outage
from infra.outbox import metrics
from infra.outbox.errors import RelayLeaseLost
from infra.outbox.lease import RelayState, acquire, release, renew

logger = logging.getLogger(__name__)

_COLUMNS: Final = (
    "id, event_id, type, schema_version, aggregate, aggregate_id, aggregate_version, "
    "slot, user_id, order_id, occurred_at, payload, headers"
)
_TRIM_INTERVAL_S: Final = 5.0
_ASK_INTERVAL_S: Final = 1.0
_RENEWALS_PER_LEASE: Final = 3


class OutboxRelay:
    """One relay; at most one of a database publishes, the others stand by. For one thread."""

    def __init__(self, alias: str, *, publisher: Publisher, holder: str, stopped: threading.Event) -> None:
        self._alias = alias
        self._publisher = publisher
        self._holder = holder
        self._stopped = stopped
        self._state: RelayState | None = None
        self._renewed_at = 0.0
        self._trimmed_at = float("-inf")
        self._asked_at = float("-inf")
        self._database_outage = Outage(logger, f"{alias}: the database is away")
        self._bus_outage = Outage(logger, f"{alias}: the bus takes no events, which stay in the outbox")

    def run(self) -> None:
        """Publish until stopped; outages are waited out, never raised."""
        pause_s = settings.EVENT_POLL_MIN_S
        while not self._stopped.is_set():
            try:
                sent_count = self.turn()
            except (BusUnavailable, BusFull) as error:
                metrics.PUBLISH_FAILURES.labels(self._alias, type(error).__name__).inc()
                self._stopped.wait(self._bus_outage.failed(error))
                continue
            except (RelayLeaseLost, PublisherFenced) as error:
                logger.warning("%s: %s; standing by", self._alias, error)
                self._state = None
                continue
            except Exception as error:
                metrics.PUBLISH_FAILURES.labels(self._alias, "database").inc()
                if not is_outage(error):
                    logger.exception("%s: the relay failed and begins anew", self._alias)
                connections[self._alias].close()
                self._state = None
                self._stopped.wait(self._database_outage.failed(error))
                continue
            self._database_outage.over()
            if sent_count is None:
                self._stopped.wait(settings.EVENT_LEASE_S / _RENEWALS_PER_LEASE / 2)
                continue
            self._bus_outage.over()
            pause_s = settings.EVENT_POLL_MIN_S if sent_count else min(pause_s * 1.5, settings.EVENT_POLL_MAX_S)
            if sent_count < settings.RELAY_BATCH:
                self._stopped.wait(pause_s)
        self._leave()

    def turn(self) -> int | None:
        """Publish one batch; returns how many events, or None while another relay holds the lease. May raise."""
        if self._state is None:
            self._state = acquire(self._alias, holder=self._holder, lease_s=settings.EVENT_LEASE_S)
            if self._state is None:
                return None
            logger.info("%s: publishing with token %s", self._alias, self._state.token)
            self._renewed_at = time.monotonic()
        state = self._state
        now = time.monotonic()
        if now - self._renewed_at >= settings.EVENT_LEASE_S / _RENEWALS_PER_LEASE:
            self._renew(state)
        if now - self._trimmed_at >= _TRIM_INTERVAL_S:
            self._trimmed_at = now
            self._publisher.trim()
        rows = self._next_rows(state)
        # An idle relay asks now and then whether the bus still remembers, so that it is fed again before new events.
        if not rows and state.refeed_after is None and now - self._asked_at < _ASK_INTERVAL_S:
            return 0
        self._asked_at = now
        try:
            self._publisher.publish(self._feed(state), [_outgoing(row) for row in rows])
        except BusForgot:
            self._begin_epoch(state)
            return 0
        if rows or state.refeed_after is not None:
            self._mark(state, [row[0] for row in rows])
        return len(rows)

    def _next_rows(self, state: RelayState) -> list[tuple[Any, ...]]:
        if state.refeed_after is None:
            # Forced, since with ORDER BY ... LIMIT the optimizer likes to walk the primary key over all that was sent.
            index, condition, bounds = "outbox_event_sent", "sent_at IS NULL", []
        else:
            index, condition = "PRIMARY", "id > %s AND id <= %s"
            bounds = [state.refeed_after, state.refeed_through]
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM outbox_event FORCE INDEX ({index}) "  # noqa: S608 - constants
                f"WHERE {condition} ORDER BY id LIMIT %s",
                [*bounds, settings.RELAY_BATCH],
            )
            return list(cursor.fetchall())

    def _mark(self, state: RelayState, ids: Sequence[int]) -> None:
        """Mark a published batch sent, unless another relay has taken over meanwhile (it then publishes it again)."""
        refeed_after = state.refeed_after
        if refeed_after is not None:
            refeed_after = ids[-1] if ids else None
        marked = replace(state, batch_number=state.batch_number + 1, refeed_after=refeed_after)
        with transaction.atomic(using=self._alias):
            self._renew(marked)
            if ids:
                with connections[self._alias].cursor() as cursor:
                    cursor.execute(
                        "UPDATE outbox_event SET sent_at = UTC_TIMESTAMP(6) WHERE sent_at IS NULL "  # noqa: S608 - constants
                        f"AND id IN ({', '.join(['%s'] * len(ids))})",
                        ids,
                    )
        self._state = marked
        if refeed_after is None and state.refeed_after is not None:
            logger.info("%s: the bus has all that the outbox holds", self._alias)
        metrics.PUBLISHED.labels(self._alias).inc(len(ids))

    def _begin_epoch(self, state: RelayState) -> None:
        """Feed the bus again: everything that the outbox still has, up to its last id of now, before anything new.

        What commits from now on has higher ids than what its aggregate has had so far, so it rightly comes after.
        """
        with connections[self._alias].cursor() as cursor:
            cursor.execute("SELECT COALESCE(MAX(id), 0) FROM outbox_event")
            last_id = cursor.fetchone()[0]
        if state.bus_epoch:
            metrics.REFEEDS.labels(self._alias).inc()
            logger.error("%s: the bus has lost its memory and is fed again up to id %s", self._alias, last_id)
        fresh = replace(state, bus_epoch=secrets.token_hex(16), batch_number=0, refeed_after=0, refeed_through=last_id)
        self._renew(fresh)
        self._state = fresh
        self._publisher.begin_epoch(self._feed(fresh))

    def _renew(self, state: RelayState) -> None:
        renewed_at = time.monotonic()
        renew(self._alias, state, holder=self._holder, lease_s=settings.EVENT_LEASE_S)
        self._renewed_at = renewed_at

    def _feed(self, state: RelayState) -> Feed:
        return Feed(source=self._alias, token=state.token, epoch=state.bus_epoch, batch_number=state.batch_number)

    def _leave(self) -> None:
        try:
            if self._state is not None:
                release(self._alias, self._state, holder=self._holder)
        except DatabaseError:
            logger.warning("%s: the lease could not be given up and ends by itself", self._alias)
        finally:
            connections.close_all()
            self._publisher.close()


def _outgoing(row: tuple[Any, ...]) -> Outgoing:
    (
        _id,
        event_id,
        type_,
        schema_version,
        aggregate,
        aggregate_id,
        version,
        slot,
        user_id,
        order_id,
        occurred_at,
        payload,
        headers,
    ) = row
    body = encode_row(
        event_id=event_id,
        type=type_,
        schema_version=schema_version,
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=version,
        slot=slot,
        user_id=user_id,
        order_id=order_id,
        occurred_at=occurred_at,
        payload=payload.encode(),
        headers=headers.encode(),
    )
    return Outgoing(slot=slot, type=type_, body=body)
