"""`manage.py sandbox_secret`: prints what the sandbox signs its callbacks with, for scripts that play provider."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Prints the signing secret, alone on the last line; refused under production settings."""

    help = "Print the sandbox provider's signing secret, alone on the last line (not under production settings)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the secret."""
        if settings.IS_PRODUCTION:
            raise CommandError("The sandbox's secret is not told under production settings.")
        self.stdout.write(str(settings.PAYMENT_PROVIDERS["sandbox"]["secret"]))
