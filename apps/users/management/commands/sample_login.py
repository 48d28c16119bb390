"""Makes the sample shopper and prints what to log in with."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.users.errors import RefusedInProduction
from apps.users.services.sample import make_sample_login


class Command(BaseCommand):
    """`sample_login`."""

    help = "Make the shopper `demo` unless it is there; the last line is JSON of login, password and address_id."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the shopper."""
        try:
            sample = make_sample_login(now=timezone.now())
        except RefusedInProduction as error:
            raise CommandError(str(error)) from error
        line = {"login": sample.login, "password": sample.password, "address_id": str(sample.address_id)}
        self.stdout.write(json.dumps(line))
