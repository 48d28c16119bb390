"""Makes the bus forget a group that no code consumes for any more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from infra.events.bus import event_bus
from infra.events.consumers import subscriptions


class Command(BaseCommand):
    """`drop_consumer_group GROUP`: a group left behind would hold back the trimming of the bus for ever."""

    help = "Drop a group from the bus after its subscription was removed from the code."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the group."""
        parser.add_argument("group")

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse for groups that are still subscribed."""
        if options["group"] in subscriptions():
            raise CommandError(f"{options['group']} is still subscribed.")
        event_bus().drop_group(options["group"])
        self.stdout.write(f"{options['group']} dropped.")
