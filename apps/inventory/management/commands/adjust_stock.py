"""Set what can still be bought of SKUs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.inventory import services
from apps.inventory.arguments import units
from apps.inventory.errors import UnknownSku


class Command(BaseCommand):
    """Adjusts all SKUs named, or none when one of them is unknown."""

    help = "Set how many units of each SKU can still be bought; what is reserved stays reserved."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the SKUs, the units and the reason."""
        parser.add_argument("skus", nargs="+", metavar="SKU")
        parser.add_argument("--to", type=units, required=True, metavar="N", help="units that can then be bought")
        parser.add_argument("--reason", required=True, help="kept with the movement, at most 200 characters")

    def handle(self, *args: Any, skus: list[str], to: int, reason: str, **options: Any) -> None:
        """Adjust and print a line a SKU."""
        try:
            changes = services.adjust_all(skus, to=to, reason=reason[:200], actor="adjust_stock", now=timezone.now())
        except UnknownSku as error:
            raise CommandError(f"Unknown SKU, nothing was changed: {', '.join(error.skus)}") from error
        for sku, change in changes.items():
            self.stdout.write(f"{sku} can be bought {to} times ({change:+d})")
