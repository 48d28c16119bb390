"""The Prometheus scrape, added up over all processes of this machine."""

from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from infra.observability.collectors import database_collectors


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape: the counters of every process, and gauges that are read from the databases."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    for collector in database_collectors():
        registry.register(collector)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
