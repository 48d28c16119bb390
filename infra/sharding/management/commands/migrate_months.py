"""`manage.py migrate_months`: bring existing months to the schema of the code."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from infra.sharding.management.commands.create_months import month_argument
from infra.sharding.month_migration import Step, migrate_months, pending_steps


class Command(BaseCommand):
    """Alters the tables of all months on all shards, newest first, online; may be killed and run again."""

    help = "Bring every existing month on every shard to the schema version of its model. Resumable, throttled."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--month", type=month_argument, action="append", help="only this month, as 2026-11; may be repeated"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be done")
        parser.add_argument("--pause", type=float, default=1.0, help="seconds to wait after each table (default 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show or take the pending steps."""
        months = options["month"]
        steps = pending_steps(months=months)
        if options["dry_run"]:
            for step in steps:
                self.stdout.write(str(step))
            self.stdout.write(f"{len(steps)} steps would be taken")
            return
        with tqdm(total=len(steps), unit="step", disable=not self.stdout.isatty()) as bar:

            def show(step: Step) -> None:
                bar.update()
                self.stdout.write(str(step))

            taken = migrate_months(months=months, pause_s=options["pause"], on_step=show)
        self.stdout.write(f"{taken} steps taken")
