"""Sends webhooks."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.notifications.services.sender import WebhookSender
from infra.events.stopping import stopped_by_signals


class Command(BaseCommand):
    """`send_webhooks`: until SIGTERM; several processes share the work."""

    help = "Send the webhooks that are due."
    # A background process starts quickly and without the URLs.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until the signal."""
        WebhookSender(stopped_by_signals()).run()
