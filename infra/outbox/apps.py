"""App configuration of the outbox."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Outbox rows and their relay."""

    name = "infra.outbox"
    label = "outbox"
