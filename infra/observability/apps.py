"""App configuration of logs and metrics."""

from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    """Logs, metrics, request scope."""

    name = "infra.observability"
    label = "observability"
