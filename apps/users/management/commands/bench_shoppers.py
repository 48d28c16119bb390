"""Makes shoppers for a load test and writes them as JSON lines."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apps.users.errors import RefusedInProduction
from apps.users.services.bench import make_bench_shoppers


class Command(BaseCommand):
    """`bench_shoppers --count N --out FILE`."""

    help = "Make N shoppers over all shards, each with an address and an access token that is valid for an hour."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare how many, and where they are written."""
        parser.add_argument("--count", type=int, required=True)
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Write a line for each shopper once its batch is committed."""
        if options["count"] < 1:
            raise CommandError("--count is at least 1.")
        try:
            with options["out"].open("w", encoding="ascii") as out:
                shoppers = make_bench_shoppers(options["count"])
                for shopper in tqdm(shoppers, total=options["count"], unit=" shoppers", disable=None):
                    line = {
                        "user_id": str(shopper.user_id),
                        "access": shopper.access,
                        "address_id": str(shopper.address_id),
                    }
                    out.write(json.dumps(line) + "\n")
        except RefusedInProduction as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['count']} shoppers are in {options['out']}.")
