"""Gauges that are read from the databases at scrape time, registered by the apps that own the tables."""

from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.utils.module_loading import import_string
from prometheus_client.registry import Collector

_cache: Final[list[Collector]] = []


def database_collectors() -> Iterable[Collector]:
    """Return one instance of each collector named by the setting `METRIC_COLLECTORS`."""
    if not _cache:
        _cache.extend(import_string(path)() for path in settings.METRIC_COLLECTORS)
    return _cache
