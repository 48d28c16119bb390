"""Prints the last code that the local sender has sent to a login."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.users.domain import MalformedLogin, normalise_login
from apps.users.selectors import last_sent_code


class Command(BaseCommand):
    """`last_code LOGIN`."""

    help = "Print the last code sent to an e-mail address or phone, alone on the last line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the login."""
        parser.add_argument("login")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the code."""
        if settings.IS_PRODUCTION:
            raise CommandError("Codes are not shown under production settings.")
        try:
            login = normalise_login(options["login"])
        except MalformedLogin as error:
            raise CommandError(str(error)) from error
        code = last_sent_code(login)
        if code is None:
            raise CommandError("No code was sent to this login.")
        self.stdout.write(code)
