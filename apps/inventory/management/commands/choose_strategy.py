"""Choose how the stock of SKUs is claimed."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.inventory import services
from apps.inventory.domain import Strategy
from apps.inventory.errors import TooManyStrategies, UnknownSku


class Command(BaseCommand):
    """Switches all SKUs named, or none when one of them is unknown."""

    help = "Choose how the stock of SKUs is claimed; it holds in every worker within three seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the strategy, the SKUs and the reason."""
        parser.add_argument("strategy", choices=[str(strategy) for strategy in Strategy])
        parser.add_argument("skus", nargs="+", metavar="SKU")
        parser.add_argument("--reason", required=True, help="kept with the change, at most 200 characters")

    def handle(self, *args: Any, strategy: str, skus: list[str], reason: str, **options: Any) -> None:
        """Choose, and print how many SKUs were claimed otherwise before."""
        try:
            changed_count = services.choose_strategy(
                skus, Strategy(strategy), reason=reason[:200], actor="choose_strategy", now=timezone.now()
            )
        except UnknownSku as error:
            raise CommandError(f"Unknown SKU, nothing was changed: {', '.join(error.skus)}") from error
        except TooManyStrategies as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{changed_count} of {len(set(skus))} SKUs switched to {strategy}")
