"""`queue`: an order waits for its turn in a queue, and one consumer at a time claims for the requests of all processes.

Every process whose requests wait runs a consumer, a thread that ends when nothing has come for a while. One of them
holds the lease and serves; when it dies, another takes over with what it has begun. The consumer claims a whole batch
at once, as `merged` does, but across processes, so at most one transaction a database is under way on these SKUs.

A request that has waited too long withdraws and tells that nothing was taken. Where the queue itself is lost, so that
nobody knows whether the claim will still be made, the request makes it itself, which an order can do any number of
times; if there is too little stock for that, the outcome is unknown.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from apps.inventory.domain import Strategy
from apps.inventory.errors import ReservationConflict
from apps.inventory.services.strategies import metrics
from apps.inventory.services.strategies.alone import hold_alone
from apps.inventory.services.strategies.in_force import strategies_of
from apps.inventory.services.strategies.merged import hold_together
from apps.inventory.services.strategies.queue import ClaimQueue, QueueAway, QueuedClaim, Reply, Withdrawal
from apps.inventory.types import Claim, Shortage
from infra.errors import OutcomeUnknown, Overloaded
from infra.mysql.requests import end_request

_log = logging.getLogger(__name__)

_IDLE_S: Final = 5.0
_AWAY_PAUSE_S: Final = 0.2
_NO_VERDICT: Final = Reply(None)
_BATCHED: Final = frozenset({Strategy.MERGED, Strategy.QUEUE})


def hold_in_queue(alias: str, claim: Claim, *, now: datetime) -> tuple[Shortage, ...]:
    """Have the consumer hold a claim in one database, and return its shortages, () meaning held.

    Waits `STOCK_QUEUE_WAIT_S` seconds for its turn, without a database connection. Raises Overloaded, with nothing
    taken and nothing to come, when it has not come by then; OutcomeUnknown when the queue was lost and the stock does
    not suffice now; ReservationConflict.
    """
    end_request()
    queue, ticket = ClaimQueue(alias), secrets.token_hex(8)
    wait_s, answer_s = settings.STOCK_QUEUE_WAIT_S, settings.STOCK_QUEUE_ANSWER_S
    try:
        consumer_of(alias).start_on_use()
        queue.put(ticket, QueuedClaim(claim, int((time.time() + wait_s + answer_s) * 1000)))
        reply = queue.reply(ticket, within_s=wait_s)
        if reply is None:
            withdrawal = queue.withdraw(ticket)
            if withdrawal is Withdrawal.WITHDRAWN:
                metrics.CONTENTION.labels("queue_late").inc()
                raise Overloaded("The order's turn did not come in time. Nothing was taken.")
            # Begun, or its reply is on its way.
            reply = queue.reply(ticket, within_s=answer_s)
    except QueueAway as error:
        metrics.CONTENTION.labels("queue_away").inc()
        if not error.was_asked:
            return hold_together(alias, [claim], now=now)[claim.order_id]
        reply = None
    if reply is None:
        return _hold_in_doubt(alias, claim, now=now)
    if reply.shortages is None:
        return hold_together(alias, [claim], now=now)[claim.order_id]
    return reply.shortages


def _hold_in_doubt(alias: str, claim: Claim, *, now: datetime) -> tuple[Shortage, ...]:
    """Hold a claim that a consumer may hold too, now or later: an order is held once, whoever does it."""
    metrics.CONTENTION.labels("queue_lost").inc()
    if hold_together(alias, [claim], now=now)[claim.order_id]:
        raise OutcomeUnknown("The queue of the stock gave no answer. Repeat the request with the same Idempotency-Key.")
    return ()


class QueueConsumer:
    """Serves the queue of one database while this process uses it and no other process does so first.

    A child made by fork begins without a thread.
    """

    _thread: threading.Thread | None
    _pid: int

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._begin_process()

    def start_on_use(self) -> None:
        """Note that this process waits for a reply, and see that the thread runs."""
        if self._pid != os.getpid():
            self._begin_process()
        with self._lock:
            self._used_at = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"stock-queue-{self._alias}", daemon=True)
                self._thread.start()

    def serve_turn(self, queue: ClaimQueue, holder: str) -> bool:
        """Serve one batch, or wait a moment for one; False while another consumer serves. May raise QueueAway."""
        begun = queue.begin(holder, limit=settings.STOCK_QUEUE_BATCH)
        if begun is None:
            return False
        if not begun:
            queue.wait_for_entries(within_s=settings.STOCK_QUEUE_LEASE_S / 3)
            return True
        now_ms = time.time() * 1000
        wanted = {
            ticket: entry.claim for ticket, entry in begun.items() if entry is not None and now_ms < entry.until_ms
        }
        claims = {claim.order_id: claim for claim in wanted.values()}  # an order that was queued twice is claimed once
        try:
            verdicts = self.claim(list(claims.values()), now=timezone.now())
        finally:
            end_request()
        replies = dict.fromkeys(begun, _NO_VERDICT)
        replies |= {ticket: verdicts.get(claim.order_id, _NO_VERDICT) for ticket, claim in wanted.items()}
        queue.tell(replies)
        return True

    def claim(self, claims: Sequence[Claim], *, now: datetime) -> dict[int, Reply]:
        """Hold the claims, those of SKUs that are only queued or merged all at once; no verdict where that fails."""
        batch = [claim for claim in claims if set(strategies_of(claim).values()) <= _BATCHED]
        replies = self._claim_batch(batch, now=now)
        for claim in claims:
            if claim not in batch:
                try:
                    replies[claim.order_id] = Reply(hold_alone(self._alias, claim, now=now))
                except (DatabaseError, ReservationConflict) as error:
                    _log.warning("no verdict on the claim of order %d: %s", claim.order_id, error)
        return replies

    def _claim_batch(self, batch: Sequence[Claim], *, now: datetime) -> dict[int, Reply]:
        if not batch:
            return {}
        try:
            refusals = hold_together(self._alias, batch, now=now)
        except ReservationConflict as conflict:
            # Those had their stock and lost it again, for their requests to tell; nothing was written for the others.
            return self._claim_batch([claim for claim in batch if claim.order_id not in conflict.order_ids], now=now)
        except DatabaseError as error:
            _log.warning("no verdict on the claims of %d orders: %s", len(batch), error)
            return {}
        return {order_id: Reply(shortages) for order_id, shortages in refusals.items()}

    def _begin_process(self) -> None:
        self._lock = threading.Lock()
        self._thread = None
        self._used_at = 0.0
        self._pid = os.getpid()

    def _run(self) -> None:
        queue, holder = ClaimQueue(self._alias), secrets.token_hex(8)
        try:
            while not self._ends():
                try:
                    if not self.serve_turn(queue, holder):
                        time.sleep(settings.STOCK_QUEUE_LEASE_S / 4)
                except QueueAway as error:
                    _log.info("the queue of %s cannot be served: %s", self._alias, error)
                    # What was begun and not told is left to the next holder, who may be this consumer by a new name.
                    holder = secrets.token_hex(8)
                    time.sleep(_AWAY_PAUSE_S)
            queue.leave(holder)
        except QueueAway as error:
            _log.info("the lease on the queue of %s is left to its end: %s", self._alias, error)
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _ends(self) -> bool:
        """Whether nobody has used this for a while; if so, whoever comes next starts another thread."""
        with self._lock:
            is_idle = time.monotonic() - self._used_at > _IDLE_S
            if is_idle:
                self._thread = None
            return is_idle


_consumers: Final[dict[str, QueueConsumer]] = {}
_making: Final = threading.Lock()


def consumer_of(alias: str) -> QueueConsumer:
    """Return this process's consumer of a database's queue."""
    with _making:
        if alias not in _consumers:
            _consumers[alias] = QueueConsumer(alias)
        return _consumers[alias]
