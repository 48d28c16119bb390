"""Runs the relay of one database."""

import os
import secrets
import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from infra.events.bus import event_bus
from infra.events.stopping import stopped_by_signals
from infra.outbox.relay import OutboxRelay
from infra.outbox.services import outbox_aliases


class Command(BaseCommand):
    """`run_relay --alias shard_0`: until SIGTERM; a second one for the same alias stands by."""

    help = "Publish the events of one database's outbox."
    # A background process starts quickly and without the URLs.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the alias."""
        parser.add_argument("--alias", required=True, choices=outbox_aliases())

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until the signal."""
        holder = f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"
        OutboxRelay(
            options["alias"], publisher=event_bus().publisher(), holder=holder, stopped=stopped_by_signals()
        ).run()
