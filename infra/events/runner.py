"""The loop of one consumer: fetch, work in batches, wait out outages, retry and bury what fails, keep each order.

Deliveries that cannot be worked now wait in memory, in lines by aggregate, unacknowledged: whatever becomes of this
process, the bus delivers them again, in order. What comes for an aggregate with a line goes behind it, so one aggregate
never holds up another one, and one shard's outage never another shard.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.db import connections

from infra.events import metrics
from infra.events.bus import BusUnavailable, Delivery, GroupReader
from infra.events.consumers import Subscription
from infra.events.deadletters import blocked_aggregates, bury, describe, park
from infra.events.outages import Outage, is_outage
from infra.sharding.places import place_of_slot

logger = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3

AggregateKey = tuple[str, int]


@dataclass(slots=True)
class _Line:
    """Deliveries of one aggregate that wait, in order, and until when (monotonic seconds)."""

    deliveries: list[Delivery]
    retry_at: float


class Consumer:
    """One consumer of one group; for one thread."""

    def __init__(self, subscription: Subscription, reader: GroupReader, stopped: threading.Event) -> None:
        self._subscription = subscription
        self._group = subscription.group
        self._reader = reader
        self._stopped = stopped
        self._tenures: Mapping[int, str] = {}
        self._balanced_at = float("-inf")
        self._lines: dict[AggregateKey, _Line] = {}
        self._attempts: Counter[str] = Counter()
        self._bus_outage = Outage(logger, f"{self._group}: the bus is away")
        self._loop_outage = Outage(logger, f"{self._group}: the loop cannot go on")
        self._outages: dict[str, Outage] = {}
        self._retry_alias_at: dict[str, float] = {}

    def run(self) -> None:
        """Work until stopped; whatever fails is logged and tried again, never raised."""
        pause_s = settings.EVENT_POLL_MIN_S
        while not self._stopped.is_set():
            try:
                worked_count = self.turn()
                self._bus_outage.over()
            except BusUnavailable as error:
                self._balanced_at = float("-inf")
                self._stopped.wait(self._bus_outage.failed(error))
                continue
            except Exception as error:
                # Not the consumer function's (those are caught around it): nothing is acknowledged, begin anew.
                if not is_outage(error):
                    logger.exception("%s: the loop failed and begins anew", self._group)
                self._forget_all()
                self._stopped.wait(self._loop_outage.failed(error))
                continue
            self._loop_outage.over()
            pause_s = settings.EVENT_POLL_MIN_S if worked_count else min(pause_s * 1.5, settings.EVENT_POLL_MAX_S)
            if not worked_count:
                self._stopped.wait(pause_s)
        self._leave()

    def turn(self) -> int:
        """Do one bounded round: due lines first, then one fetch; returns how many events were taken. May raise."""
        now = time.monotonic()
        if now - self._balanced_at >= settings.EVENT_LEASE_S / _RENEWALS_PER_LEASE:
            self._balance(now)
        worked_count = self._work(self._due(now))
        waiting = Counter(delivery.partition for line in self._lines.values() for delivery in line.deliveries)
        open_partitions = [partition for partition in self._tenures if waiting[partition] < settings.EVENT_MAX_WAITING]
        fetched = self._reader.fetch(partitions=open_partitions, limit=settings.EVENT_BATCH)
        return worked_count + self._work(self._behind_their_lines(fetched))

    def _balance(self, now: float) -> None:
        tenures = self._reader.balance()
        gone = {partition for partition, tenure in self._tenures.items() if tenures.get(partition) != tenure}
        if gone:
            self._lines = {
                key: line
                for key, line in self._lines.items()
                if not line.deliveries or line.deliveries[0].partition not in gone
            }
        if len(tenures) != len(self._tenures):
            logger.info("%s: %s partitions", self._group, len(tenures))
        self._tenures = tenures
        self._balanced_at = now

    def _forget_all(self) -> None:
        """Drop what waits; the partitions are begun anew, with all that is not acknowledged."""
        self._lines.clear()
        self._tenures = {}
        self._balanced_at = float("-inf")
        self._reader.restart()

    def _leave(self) -> None:
        try:
            self._reader.close()
        except BusUnavailable:
            logger.warning("%s: the bus is away; the partitions come free with the lease", self._group)
        connections.close_all()

    def _due(self, now: float) -> list[Delivery]:
        """Take the deliveries of lines whose time has come out of the lines, up to a batch."""
        due: list[Delivery] = []
        for key in [key for key, line in self._lines.items() if line.retry_at <= now]:
            if len(due) >= settings.EVENT_BATCH:
                break
            due += self._lines.pop(key).deliveries
        return due

    def _behind_their_lines(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Put deliveries of aggregates that have a line behind it; returns the others."""
        free: list[Delivery] = []
        for delivery in deliveries:
            line = self._lines.get(delivery.envelope.aggregate_key)
            if line is None:
                free.append(delivery)
            else:
                line.deliveries.append(delivery)
        return free

    def _work(self, deliveries: Sequence[Delivery]) -> int:
        by_alias: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_alias.setdefault(place_of_slot(delivery.envelope.slot).alias, []).append(delivery)
        return sum(self._work_shard(alias, batch) for alias, batch in by_alias.items())

    def _work_shard(self, alias: str, batch: list[Delivery]) -> int:
        """Give one shard's deliveries to the group; what cannot be taken now goes into lines."""
        retry_at = self._retry_alias_at.get(alias, 0.0)
        if retry_at > time.monotonic():
            self._wait(batch, retry_at)
            return 0
        try:
            batch = self._without_parked(alias, batch)
            if batch:
                self._subscription.consume([delivery.envelope for delivery in batch])
        except Exception as error:  # noqa: BLE001 - a consumer may fail in any way; all end in a line or a dead letter
            if is_outage(error):
                self._put_off(alias, batch, error)
                return 0
            if len(batch) == 1:
                self._failed(alias, batch[0], error)
                return 0
            return self._work_one_by_one(alias, batch)
        self._taken(alias, batch)
        return len(batch)

    def _work_one_by_one(self, alias: str, batch: Sequence[Delivery]) -> int:
        """Find out which of a batch fails; it and what follows of its aggregate waits, the others are taken."""
        taken: list[Delivery] = []
        for at, delivery in enumerate(batch):
            if not self._behind_their_lines([delivery]):
                continue
            try:
                self._subscription.consume([delivery.envelope])
            except Exception as error:  # noqa: BLE001 - as above
                if is_outage(error):
                    self._put_off(alias, self._behind_their_lines(batch[at:]), error)
                    break
                self._failed(alias, delivery, error)
            else:
                taken.append(delivery)
        self._taken(alias, taken)
        return len(taken)

    def _failed(self, alias: str, delivery: Delivery, error: Exception) -> None:
        envelope = delivery.envelope
        self._attempts[envelope.event_id] += 1
        attempt_count = self._attempts[envelope.event_id]
        if attempt_count < settings.EVENT_MAX_ATTEMPTS:
            metrics.RETRIED.labels(self._group).inc()
            logger.warning(
                "%s failed on %s of %s %s (attempt %s): %s",
                self._group, envelope.type, *envelope.aggregate_key, attempt_count, describe(error),
            )  # fmt: skip
            delay_s = min(0.1 * 2**attempt_count, settings.EVENT_RETRY_MAX_DELAY_S)
            self._wait([delivery], time.monotonic() + delay_s)
            return
        try:
            bury(self._group, envelope, error=describe(error), attempt_count=attempt_count, now=datetime.now(UTC))
        except Exception as burying_error:  # noqa: BLE001 - nothing is lost while it waits
            # It goes on waiting, and with it what follows of its aggregate.
            self._put_off(alias, [delivery], burying_error)
            return
        logger.error(
            "%s gave up %s of %s %s after %s attempts",
            self._group, envelope.type, *envelope.aggregate_key, attempt_count, exc_info=error,
        )  # fmt: skip
        del self._attempts[envelope.event_id]
        # What follows of this aggregate in the batch at hand is parked in the next round.
        self._lines.setdefault(envelope.aggregate_key, _Line([], time.monotonic()))
        self._reader.acknowledge([delivery])

    def _without_parked(self, alias: str, batch: Sequence[Delivery]) -> list[Delivery]:
        """Park the deliveries whose aggregate has a dead letter; returns the others."""
        blocked = blocked_aggregates(alias, self._group, {delivery.envelope.slot for delivery in batch})
        if not blocked:
            return list(batch)
        free: list[Delivery] = []
        parked: list[Delivery] = []
        for delivery in batch:
            envelope = delivery.envelope
            waits = envelope.aggregate_key in blocked and park(alias, self._group, envelope, now=datetime.now(UTC))
            (parked if waits else free).append(delivery)
        if parked:
            self._reader.acknowledge(parked)
        return free

    def _taken(self, alias: str, batch: Sequence[Delivery]) -> None:
        if not batch:
            return
        if (outage := self._outages.pop(alias, None)) is not None:
            outage.over()
        for delivery in batch:
            self._attempts.pop(delivery.envelope.event_id, None)
        metrics.CONSUMED.labels(self._group).inc(len(batch))
        self._reader.acknowledge(batch)

    def _put_off(self, alias: str, batch: Sequence[Delivery], error: Exception) -> None:
        """Let a shard's deliveries wait for the end of an outage; its connection is opened anew then."""
        metrics.CONSUMER_OUTAGES.labels(self._group).inc()
        outage = self._outages.setdefault(alias, Outage(logger, f"{self._group} cannot work for {alias}"))
        self._retry_alias_at[alias] = time.monotonic() + outage.failed(error)
        connections.close_all()
        self._wait(batch, self._retry_alias_at[alias])

    def _wait(self, deliveries: Sequence[Delivery], retry_at: float) -> None:
        for delivery in deliveries:
            line = self._lines.setdefault(delivery.envelope.aggregate_key, _Line([], retry_at))
            line.deliveries.append(delivery)
