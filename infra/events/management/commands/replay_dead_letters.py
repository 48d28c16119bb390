"""Gives dead letters to their groups again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from infra.events.consumers import subscriptions
from infra.events.deadletters import replay
from infra.events.models import DeadLetter
from infra.events.outages import is_outage
from infra.sharding.places import shard_aliases


class Command(BaseCommand):
    """`replay_dead_letters [--group G] [--dry-run] [--limit N]`; what fails again stays."""

    help = "Give dead letters, and what waits behind them, to their groups again, each aggregate's in order."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare group, limit and dry run."""
        parser.add_argument("--group", help="only this group")
        parser.add_argument("--limit", type=int, default=10_000, help="at most this many letters a shard and group")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay shard by shard; a shard that is away does not stop the others."""
        known = subscriptions()
        groups = [options["group"]] if options["group"] else sorted(known)
        if unknown := set(groups) - known.keys():
            raise CommandError(f"No group {', '.join(unknown)}; there are: {', '.join(sorted(known))}.")
        left_count = 0
        away: list[str] = []
        for alias in shard_aliases():
            for group in groups:
                try:
                    if options["dry_run"]:
                        taken, left = 0, DeadLetter.objects.using(alias).filter(group_name=group).count()
                    else:
                        taken, left = replay(alias, known[group], limit=options["limit"])
                except Exception as error:
                    if not is_outage(error):
                        raise
                    away.append(f"{alias}: {error}")
                    break
                left_count += left
                if taken or left:
                    self.stdout.write(f"{alias} {group}: {taken} taken, {left} left")
        if away:
            raise CommandError("Not reached: " + "; ".join(away))
        self.stdout.write(f"{left_count} dead letters left.")
