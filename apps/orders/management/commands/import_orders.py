"""Loads the invoices of a shop as closed past orders."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from apps.orders.importing.classify import classify
from apps.orders.importing.load import load_customers, load_orders
from apps.orders.importing.parse import NotAnInvoiceFile, read_invoices, titles_by_code
from apps.orders.importing.report import ImportReport
from infra.sharding.named_lock import NamedLockTimeout, named_lock
from infra.sharding.placement import HOME


class Command(BaseCommand):
    """`import_orders FILE [--dry-run] [--source NAME]`."""

    help = (
        "Load the invoices of a CSV file (gzipped or not) as closed past orders, into their true months. "
        "Run it again after a kill: it goes on, and what is there already stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the file, and whether to write."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="read and judge the file, write nothing")
        parser.add_argument("--source", default="online-retail", help="the name under which its numbers are unique")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read, judge, write, report."""
        try:
            source_file = read_invoices(options["file"])
        except (OSError, NotAnInvoiceFile) as error:
            raise CommandError(str(error)) from error
        report = ImportReport.of(source_file, is_dry_run=options["dry_run"])
        titles = titles_by_code(iter(source_file.invoices.values()))
        for number, invoice in source_file.invoices.items():
            report.add(number, len(invoice.lines), classify(invoice, titles=titles))
        report.user_count = len({order.customer for order in report.orders})
        if not options["dry_run"]:
            try:
                with named_lock(HOME, "import-orders", timeout_s=1):
                    self._write(report, source=options["source"])
            except NamedLockTimeout as error:
                raise CommandError("Another import is running.") from error
        for line in report.text():
            self.stdout.write(line)

    def _write(self, report: ImportReport, *, source: str) -> None:
        now = timezone.now()
        users = load_customers(report.orders, source=source, now=now)
        with tqdm(total=len(report.orders), unit="order", file=self.stderr) as bar:
            report.written_count = load_orders(report.orders, source=source, users=users, now=now, progress=bar.update)
