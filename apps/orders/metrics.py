"""Metrics of orders."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

_FLASH_NAME = "floodgate_flash_answers"
FLASH_ANSWERS = Counter(
    f"{_FLASH_NAME}_total", "Answers to buyers of a flash sale: ordered, queued, or the code of a refusal.",
    ["sale", "answer"],
)  # fmt: skip


def count_flash_answer(sale_id: int, answer: str) -> None:
    """Count one answer to a buyer of a sale."""
    FLASH_ANSWERS.labels(str(sale_id), answer).inc()


def flash_answers(sale_id: int) -> Mapping[str, int]:
    """Return how often each answer was given in a sale, by all processes of this machine since they were started."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return {
        sample.labels["answer"]: int(sample.value)
        for metric in registry.collect()
        if metric.name == _FLASH_NAME
        for sample in metric.samples
        if sample.labels.get("sale") == str(sale_id)
    }
