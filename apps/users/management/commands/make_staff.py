"""Makes a staff account with a second factor."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.users.services.staff import Role, StaffExists, make_staff


class Command(BaseCommand):
    """`make_staff USERNAME --role ROLE`."""

    help = "Make a staff account and print its password and the URL for an authenticator app, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare name and role."""
        parser.add_argument("username")
        parser.add_argument("--role", choices=[role.value for role in Role], default=Role.SUPPORT.value)
        parser.add_argument("--reset", action="store_true", help="give an existing account new credentials")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the account."""
        try:
            made = make_staff(username=options["username"], role=Role(options["role"]), reset=options["reset"])
        except StaffExists as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"username: {made.username}")
        self.stdout.write(f"password: {made.password}")
        self.stdout.write("Add this to an authenticator app; it is not shown again:")
        self.stdout.write(made.otpauth_url)
