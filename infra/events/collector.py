"""Depths and ages of outbox, bus, dead letters and follow-ups, read when the staff's /metrics is scraped."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from django.db import connections
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.events.bus import event_bus
from infra.events.consumers import subscriptions
from infra.events.outages import is_outage
from infra.sharding.places import shard_aliases

logger = logging.getLogger(__name__)

_CACHE_S: Final = 5.0
# Counting stops here: a backlog of this size is an alarm already, and a scrape must stay cheap.
COUNT_BOUND: Final = 100_000


class EventsCollector(Collector):
    """Gauges by shard and group; a source that is away is left out and told by `floodgate_events_source_up`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, at most a few seconds old."""
        with self._lock:
            if time.monotonic() - self._read_at >= _CACHE_S:
                self._metrics = list(_read())
                self._read_at = time.monotonic()
            return self._metrics

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are known only once collected, and registering must not touch a database."""
        return []


def _read() -> Iterator[Metric]:
    up = GaugeMetricFamily("floodgate_events_source_up", "Whether the source could be read.", labels=["source"])
    depth = GaugeMetricFamily("floodgate_outbox_depth", "Events not sent yet (bounded count).", labels=["alias"])
    age = GaugeMetricFamily("floodgate_outbox_oldest_seconds", "Age of the oldest event not sent.", labels=["alias"])
    dead = GaugeMetricFamily(
        "floodgate_dead_letters", "Dead letters and what is parked.", labels=["alias", "group", "state"]
    )
    overdue = GaugeMetricFamily("floodgate_followups_overdue", "Follow-ups that are due.", labels=["alias", "kind"])
    overdue_age = GaugeMetricFamily(
        "floodgate_followups_oldest_overdue_seconds", "For how long the oldest one is due.", labels=["alias", "kind"]
    )
    backlog = GaugeMetricFamily("floodgate_events_backlog", "Entries that a group has not taken yet.", labels=["group"])

    def read_outbox(alias: str) -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_event WHERE sent_at IS NULL LIMIT %s) AS unsent",
                [COUNT_BOUND],
            )
            depth.add_metric([alias], cursor.fetchone()[0])
            cursor.execute(
                "SELECT TIMESTAMPDIFF(MICROSECOND, occurred_at, UTC_TIMESTAMP(6)) / 1000000 "
                "FROM outbox_event FORCE INDEX (outbox_event_sent) WHERE sent_at IS NULL ORDER BY id LIMIT 1"
            )
            oldest = cursor.fetchone()
            age.add_metric([alias], max(float(oldest[0]), 0.0) if oldest else 0.0)

    def read_shard(alias: str) -> None:
        read_outbox(alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT group_name, state, COUNT(*) FROM events_deadletter GROUP BY group_name, state")
            for group, state, count in cursor.fetchall():
                dead.add_metric([alias, group, state], count)
            cursor.execute(
                "SELECT kind, COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(due_at), UTC_TIMESTAMP(6)) / 1000000 FROM "
                "(SELECT kind, due_at FROM followups_followup WHERE due_at <= UTC_TIMESTAMP(6) LIMIT %s) AS due "
                "GROUP BY kind",
                [COUNT_BOUND],
            )
            for kind, count, oldest_s in cursor.fetchall():
                overdue.add_metric([alias, kind], count)
                overdue_age.add_metric([alias, kind], max(float(oldest_s), 0.0))

    def read_bus(_name: str) -> None:
        bus = event_bus()
        for group in subscriptions():
            backlog.add_metric([group], bus.backlog(group))

    for alias in shard_aliases():
        up.add_metric([alias], _is_read(read_shard, alias))
    up.add_metric(["promotions"], _is_read(read_outbox, "promotions"))
    up.add_metric(["bus"], _is_read(read_bus, "bus"))
    yield from (up, depth, age, dead, overdue, overdue_age, backlog)


def _is_read(read: Callable[[str], None], source: str) -> int:
    try:
        read(source)
    except Exception as error:
        if not is_outage(error):
            logger.exception("%s could not be read for the metrics", source)
        return 0
    return 1
