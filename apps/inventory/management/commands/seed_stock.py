"""Open the stock of SKUs that have none yet."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.catalog.selectors import all_sku_codes
from apps.inventory import services
from apps.inventory.arguments import units


class Command(BaseCommand):
    """Makes the missing stock rows; existing ones are left as they are."""

    help = "Make the stock rows that SKUs of the catalog lack, each with the same number of units."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the units."""
        parser.add_argument("--to", type=units, default=1000, metavar="N", help="units on hand of each (default 1000)")

    def handle(self, *args: Any, to: int, **options: Any) -> None:
        """Open what is missing."""
        codes = all_sku_codes()
        made = services.open_stock(codes, units=to, now=timezone.now())
        self.stdout.write(f"{len(codes)} SKUs, {made} new stock rows with {to} units each.")
