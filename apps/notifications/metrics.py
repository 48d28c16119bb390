"""Metrics of notifications: what senders count, and depths and ages read from the shards."""

import logging
from collections.abc import Iterable
from typing import Final

from django.db import DatabaseError, connections
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.notifications.models import DeliveryState, Subscription
from infra.sharding.places import shard_aliases

_log = logging.getLogger(__name__)

ATTEMPTS = Counter("floodgate_webhook_attempts_total", "Webhooks sent, by what came of it.", ["outcome"])
ANSWER_SECONDS = Histogram(
    "floodgate_webhook_answer_seconds",
    "Time until a receiver's answer.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
DEAD = Counter("floodgate_webhook_deliveries_dead_total", "Deliveries given up after their time.")
DISABLED = Counter("floodgate_webhook_disabled_total", "Subscriptions disabled because they lastingly failed.")
LEASES_LOST = Counter("floodgate_webhook_leases_lost_total", "Deliveries not tried because their claim had run out.")

_COUNT_BOUND: Final = 10_000


class DeliveriesCollector(Collector):
    """What is owed to each subscription, how old it is, and what was given up; a shard that is away is left out."""

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        backlog = GaugeMetricFamily(
            "floodgate_webhook_backlog", "Deliveries not made yet (bounded count).", labels=["alias", "subscription"]
        )
        age = GaugeMetricFamily(
            "floodgate_webhook_oldest_seconds", "Age of the oldest of them.", labels=["alias", "subscription"]
        )
        dead = GaugeMetricFamily(
            "floodgate_webhook_dead", "Deliveries given up (bounded count).", labels=["alias", "subscription"]
        )
        disabled = GaugeMetricFamily("floodgate_webhook_disabled", "Subscriptions that are disabled.")
        gauges = [backlog, age, dead, disabled]
        try:
            names = {row.id: row.name for row in Subscription.objects.all()}
            disabled.add_metric([], Subscription.objects.filter(enabled=False).count())
        except DatabaseError:
            _log.warning("subscriptions cannot be read for the metrics", exc_info=True)
            return gauges
        for alias in shard_aliases():
            try:
                for subscription_id, name in names.items():
                    count, oldest_s = _pending(alias, subscription_id)
                    backlog.add_metric([alias, name], count)
                    age.add_metric([alias, name], oldest_s)
                    dead.add_metric([alias, name], _dead_count(alias, subscription_id))
            except DatabaseError:
                _log.warning("%s cannot be read for the metrics of webhooks", alias, exc_info=True)
        return gauges

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not touch a database."""
        return []


def _pending(alias: str, subscription_id: int) -> tuple[int, float]:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(created_at), UTC_TIMESTAMP(6)) / 1000000 FROM "
            "(SELECT created_at FROM notifications_delivery WHERE subscription_id = %s AND state = %s "
            "ORDER BY position LIMIT %s) AS pending",
            [subscription_id, DeliveryState.PENDING.value, _COUNT_BOUND],
        )
        count, oldest_s = cursor.fetchone()
    return count, max(float(oldest_s or 0), 0.0)


def _dead_count(alias: str, subscription_id: int) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM (SELECT 1 FROM notifications_delivery WHERE subscription_id = %s AND state = %s "
            "LIMIT %s) AS dead",
            [subscription_id, DeliveryState.DEAD.value, _COUNT_BOUND],
        )
        return int(cursor.fetchone()[0])
