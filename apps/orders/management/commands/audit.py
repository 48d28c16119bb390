"""`manage.py audit`: do the databases agree with the invariants?"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.orders.audit.findings import Finding
from apps.orders.audit.runner import Report, audit, repair


class Command(BaseCommand):
    """Prints what was found and exits with 1 if any of it lasts."""

    help = "Check the invariants over all databases. Fails on a finding that outlasts its recovery bound."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for what is in flight to settle"
        )
        parser.add_argument("--repair", action="store_true", help="mend what can be mended safely, then check again")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the audit, repair if asked to, print, and exit."""
        report = audit(wait_s=options["wait"])
        if options["repair"] and report.lasting:
            for finding, outcome in repair(report.lasting):
                self.stderr.write(f"{finding.check}  {finding.subject}: {outcome}")
            report = audit(wait_s=options["wait"])
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(report), indent=2))
        else:
            self._print(report)
        if not report.is_clean:
            sys.exit(1)

    def _print(self, report: Report) -> None:
        found = [("LASTING", finding) for finding in report.lasting]
        found += [("in flight", finding) for finding in report.in_flight]
        if found:
            rows = [("", "check", "where", "what", "finding")]
            rows += [(state, each.check, each.alias, each.subject, each.detail) for state, each in found]
            for row in _aligned(rows):
                self.stdout.write(row)
        self.stdout.write(
            f"{report.checks_count} checks in {report.duration_s:.1f} s: "
            f"{len(report.lasting)} lasting findings, {len(report.in_flight)} in flight"
        )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


def _as_json(report: Report) -> dict[str, object]:
    return {
        "clean": report.is_clean,
        "checks": report.checks_count,
        "duration_s": round(report.duration_s, 3),
        "lasting": [_finding_as_json(finding) for finding in report.lasting],
        "in_flight": [_finding_as_json(finding) for finding in report.in_flight],
    }


def _finding_as_json(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "alias": finding.alias,
        "subject": finding.subject,
        "detail": finding.detail,
        "since": finding.since.isoformat() if finding.since else None,
        "repairable": finding.mend is not None,
    }
