"""The loop of a sender: claims what is due, sends it in threads, writes what came of it.

The threads do nothing but send; all that is read and written is done by the loop, outside of any transaction of theirs.
Any number of senders may run: a delivery is claimed by one at a time.
"""

import logging
import queue
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, TypeVar

from django.conf import settings
from django.db import DatabaseError, connections

from apps.notifications import metrics
from apps.notifications.domain import GONE
from apps.notifications.selectors import webhook_targets
from apps.notifications.services.deliveries import claim_due, settle
from apps.notifications.services.sending import send
from apps.notifications.services.subscriptions import note_outcomes
from apps.notifications.types import DueDelivery, Outcome, Target
from infra.events.outages import Outage, is_outage
from infra.followups.rounds import round_over
from infra.sharding.places import shard_aliases

logger = logging.getLogger(__name__)

# A claim must last at least so much longer than a try may take.
_LEASE_MARGIN_S: Final = 5.0

Result = tuple[DueDelivery, Outcome]
T = TypeVar("T")


class WebhookSender:
    """One sender; `run` is for one thread."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._threads = ThreadPoolExecutor(settings.WEBHOOK_CONCURRENCY, thread_name_prefix="webhook")
        self._results: queue.SimpleQueue[Result | DueDelivery] = queue.SimpleQueue()
        self._unsettled: dict[str, list[Result]] = defaultdict(list)
        self._under_way: Counter[int] = Counter()
        self._outage = Outage(logger, "webhooks cannot be sent")

    def run(self) -> None:
        """Send until stopped; whatever fails is logged and tried again, never raised."""
        pause_s = settings.WEBHOOK_POLL_MIN_S
        while not self._stopped.is_set():
            try:
                worked_count = self.turn(wait_s=pause_s)
                self._outage.over()
            except Exception as error:
                if not is_outage(error):
                    logger.exception("the sender failed and goes on")
                connections.close_all()
                self._stopped.wait(self._outage.failed(error))
                continue
            pause_s = settings.WEBHOOK_POLL_MIN_S if worked_count else min(pause_s * 1.5, settings.WEBHOOK_POLL_MAX_S)
        self._leave()

    def turn(self, *, wait_s: float) -> int:
        """Write what has come meanwhile, and begin what is due; returns how many of both. May raise.

        Waits up to `wait_s` seconds for something to come.
        """
        settled_count = self._settle(self._collect(wait_s))
        return settled_count + self._begin()

    def _begin(self) -> int:
        """Claim as many due deliveries as there are places, and hand them to threads."""
        targets = webhook_targets()
        claimed_count = 0

        def claim(alias: str) -> int:
            nonlocal claimed_count
            for delivery in claim_due(alias, self._places(targets), now=datetime.now(UTC)):
                self._under_way[delivery.target.id] += 1
                claimed_count += 1
                self._threads.submit(self._send, delivery)
            return 0

        if targets:
            round_over(_shuffled(shard_aliases()), "claiming webhooks", claim)
        return claimed_count

    def _places(self, targets: Sequence[Target]) -> dict[Target, int]:
        """Return how many deliveries each subscription may have begun now; see `_shuffled`."""
        free = settings.WEBHOOK_CONCURRENCY - self._under_way.total()
        places: dict[Target, int] = {}
        for target in _shuffled(targets):
            count = min(settings.WEBHOOK_SUBSCRIPTION_CONCURRENCY - self._under_way[target.id], free)
            if count > 0:
                places[target] = count
                free -= count
        return places

    def _send(self, delivery: DueDelivery) -> None:
        """Send one delivery, in a thread; what came of it is handed to the loop, whatever happens."""
        result: Result | DueDelivery = delivery
        try:
            if time.monotonic() > delivery.lease_ends_at - settings.WEBHOOK_TIMEOUT_S - _LEASE_MARGIN_S:
                metrics.LEASES_LOST.inc()
            else:
                outcome = send(delivery.target, event_id=delivery.event_id, body=delivery.body, now=datetime.now(UTC))
                result = (delivery, outcome)
        except Exception as error:
            logger.exception("sending %s to %s failed", delivery.event_id, delivery.target.name)
            result = (delivery, Outcome(status=None, error=type(error).__name__, retry_after="", took_s=0.0))
        finally:
            self._results.put(result)

    def _collect(self, wait_s: float) -> list[Result]:
        """Take what the threads have handed over, waiting a moment for the first."""
        found: list[Result] = []
        try:
            result = self._results.get(timeout=wait_s)
            while True:
                delivery = result if isinstance(result, DueDelivery) else result[0]
                self._under_way[delivery.target.id] -= 1
                if not isinstance(result, DueDelivery):
                    found.append(result)
                result = self._results.get_nowait()
        except queue.Empty:
            return found

    def _settle(self, results: list[Result]) -> int:
        """Write what came of deliveries; what a shard that is away cannot take is kept until the claims have ended."""
        for result in results:
            self._unsettled[result[0].alias].append(result)
        waiting = {alias: found for alias, found in self._unsettled.items() if found}
        if not waiting:
            return 0

        def write(alias: str) -> int:
            now_s = time.monotonic()
            kept = [result for result in waiting[alias] if result[0].lease_ends_at > now_s]
            written_count = settle(alias, kept, now=datetime.now(UTC)) if kept else 0
            self._unsettled[alias] = []
            return written_count

        written = round_over(waiting, "settling webhooks", write)
        if results:
            self._note(results)
        return sum(written.values())

    def _note(self, results: list[Result]) -> None:
        """Tell the subscriptions whether they work, where that is news."""
        now = datetime.now(UTC)
        outcomes: dict[Target, bool] = {}
        for delivery, outcome in results:
            outcomes[delivery.target] = outcomes.get(delivery.target, False) or outcome.succeeded
        news = {target.id: succeeded for target, succeeded in outcomes.items() if _is_news(target, succeeded, now=now)}
        gone = {delivery.target.id for delivery, outcome in results if outcome.status == GONE}
        if not (news or gone):
            return
        try:
            note_outcomes(news, gone, now=now)
        except DatabaseError:
            # The next outcome tells it again.
            logger.warning("what became of subscriptions cannot be noted", exc_info=True)

    def _leave(self) -> None:
        """Let what is under way end, and write it."""
        ends_at = time.monotonic() + settings.WEBHOOK_TIMEOUT_S + 1
        while self._under_way.total() and time.monotonic() < ends_at:
            self._settle(self._collect(0.1))
        self._threads.shutdown(wait=False, cancel_futures=True)
        connections.close_all()


def _shuffled(members: Sequence[T]) -> Sequence[T]:
    """Return the members in any order: where the first ones leave nothing, it is not always the same that get it."""
    return random.sample(members, len(members))


def _is_news(target: Target, succeeded: bool, *, now: datetime) -> bool:
    """Tell whether an outcome changes a subscription: a first failure or success, or a failure that has lasted."""
    if target.failing_since is None:
        return not succeeded
    return succeeded or target.failing_since <= now - settings.WEBHOOK_RETRY_PERIOD
