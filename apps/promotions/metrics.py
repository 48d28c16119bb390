"""Answers to buyers of flash sales, for the staff's /metrics."""

from collections.abc import Iterable

from django.db import OperationalError
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.promotions.selectors import answers_of, live_sales


class SaleAnswersCollector(Collector):
    """How often each answer was given in the sales that run or are to come, by all processes together."""

    def collect(self) -> Iterable[Metric]:
        """Return the counter; without samples while `promotions` is away."""
        counted = CounterMetricFamily(
            "floodgate_flash_answers",
            "Answers to buyers of a flash sale: ordered, queued, or the code of a refusal.",
            labels=["sale", "answer"],
        )
        try:
            for sale in live_sales():
                for answer, count in answers_of(sale.id).totals().items():
                    counted.add_metric([str(sale.id), answer], count)
        except OperationalError:
            pass  # told by floodgate_events_source_up and by ready
        return [counted]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not touch a database."""
        return []
