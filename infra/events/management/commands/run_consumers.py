"""Runs the consumers of the event bus, one thread a group."""

import logging
import os
import secrets
import socket
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from infra.events.bus import event_bus
from infra.events.consumers import Subscription, subscriptions
from infra.events.runner import Consumer
from infra.events.stopping import stopped_by_signals

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """`run_consumers [--group G ...]`: until SIGTERM; several processes share the partitions."""

    help = "Consume events for all groups, or for the groups named."
    # A background process starts quickly and without the URLs.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the groups."""
        parser.add_argument("--group", action="append", default=[], help="only this group (may be repeated)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Start a thread a group and wait for the signal."""
        known = subscriptions()
        unknown = set(options["group"]) - known.keys()
        if unknown:
            raise CommandError(f"No group {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}.")
        stopped = stopped_by_signals()
        threads = [
            threading.Thread(target=_consumer(known[group], stopped).run, name=group)
            for group in options["group"] or sorted(known)
        ]
        for thread in threads:
            thread.start()
        logger.info("consuming for %s", ", ".join(thread.name for thread in threads))
        stopped.wait()
        for thread in threads:
            thread.join()


def _consumer(subscription: Subscription, stopped: threading.Event) -> Consumer:
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    reader = event_bus().reader(group=subscription.group, consumer=name, types=subscription.types)
    return Consumer(subscription, reader, stopped)
