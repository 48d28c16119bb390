"""`manage.py reconcile_payments`: a provider's settlement file against the ledger of all shards."""

from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils import timezone

from apps.orders.services.reconciliation import Reconciliation, reconcile
from apps.payments.errors import ProviderRefused, ProviderTimeout, ProviderUnavailable
from apps.payments.services import open_differences, provider_names

_SHOWN = 200


class Command(BaseCommand):
    """`reconcile_payments --date D [--provider P]`."""

    help = (
        "Compare a day (UTC) of each provider's settlement file with the ledger, mend what is safe and list the rest. "
        "May be killed and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the day and the provider."""
        parser.add_argument("--date", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
        parser.add_argument("--provider", choices=provider_names(), help="one provider; all without it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Reconcile, and print the counts and every difference that is open."""
        now = timezone.now()
        if options["date"] > now.date():
            raise CommandError(f"{options['date']} is yet to come.")
        failed = []
        for provider in [options["provider"]] if options["provider"] else provider_names():
            try:
                report = reconcile(provider=provider, day=options["date"], now=now)
            except (ProviderTimeout, ProviderUnavailable, ProviderRefused, OperationalError) as error:
                self.stderr.write(f"{provider}: {error}")
                failed.append(provider)
            else:
                self._print(report)
        if failed:
            raise CommandError(f"Not reconciled: {', '.join(failed)}. Run it again.")

    def _print(self, report: Reconciliation) -> None:
        mended = ", ".join(f"{kind} {count}" for kind, count in sorted(report.mended.items())) or "nothing"
        found = ", ".join(f"{kind} {count}" for kind, count in sorted(report.found.items())) or "nothing"
        self.stdout.write(
            f"{report.provider} {report.day}: {report.line_count} lines; mended: {mended}; for the staff: {found}"
        )
        now = timezone.now()
        for difference in open_differences(provider=report.provider, limit=_SHOWN):
            age_h = (now - difference.since).total_seconds() / 3600
            self.stdout.write(
                f"  {difference.kind:13} {age_h:8.1f} h  {difference.reference:40} "
                f"ours: {difference.ours or '-'}; theirs: {difference.theirs or '-'}"
            )
