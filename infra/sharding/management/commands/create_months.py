"""`manage.py create_months`: make the tables of this and the coming months ahead of time."""

import argparse
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from infra.sharding.month_tables import PlannedTable, TooFewSlots, make_months, plan_month
from infra.sharding.months import Month


def month_argument(text: str) -> Month:
    """Parse `2026-11` for argparse."""
    try:
        return Month.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Command(BaseCommand):
    """Makes what is missing; run it as often as you like."""

    help = "Make the monthly tables on every shard, sized from the forecast. Idempotent."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--month",
            type=month_argument,
            action="append",
            help="a month, as 2026-11; may be repeated (default: this month and the next --ahead)",
        )
        parser.add_argument("--ahead", type=int, default=settings.MONTHS_AHEAD, help="how many months to come")
        parser.add_argument(
            "--forecast", type=int, help="orders of all shards in a month (default: MONTHLY_ORDERS_FORECAST)"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be made")

    def handle(self, *args: Any, **options: Any) -> None:
        """Plan or make each month and print a line a table."""
        months: list[Month] = options["month"] or self._coming_months(options["ahead"])
        try:
            for month in months:
                if options["dry_run"]:
                    for planned in plan_month(month, forecast=options["forecast"]):
                        self._tell(planned, "exists" if planned.exists else "would be made")
                else:
                    made = make_months(month, forecast=options["forecast"])
                    for planned in made:
                        self._tell(planned, "made")
                    if not made:
                        self.stdout.write(f"{month}: all tables exist")
        except TooFewSlots as error:
            raise CommandError(str(error)) from error

    def _coming_months(self, ahead: int) -> list[Month]:
        months = [Month.of(datetime.now(UTC))]
        for _ in range(ahead):
            months.append(months[-1].next())
        return months

    def _tell(self, planned: PlannedTable, what: str) -> None:
        self.stdout.write(f"{planned.alias}  {planned.name}  {planned.partitions} partitions: {what}")
