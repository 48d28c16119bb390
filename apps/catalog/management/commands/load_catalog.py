"""Build the catalog from the real shop's codes."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.catalog import services, source


class Command(BaseCommand):
    """Makes what is missing of the catalog, and reports what became of unusual codes."""

    help = "Build the catalog from the shipped part of the Online Retail file; what exists is left as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the file."""
        parser.add_argument("--file", type=Path, default=source.PART, help="another part, made by make_catalog_part")
        parser.add_argument("--quiet-report", action="store_true", help="leave out the table of unusual codes")

    def handle(self, *args: Any, file: Path, quiet_report: bool, **options: Any) -> None:
        """Load and print the report."""
        try:
            drafts, report = source.draft_products(source.read_part(file))
        except (OSError, ValueError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        loaded = services.load_drafts(drafts, now=timezone.now())
        if not quiet_report:
            for kind, done, count, examples in report.rows():
                self.stdout.write(f"{count:>6} codes  {kind:<50} {done:<45} {examples}")
        on_sale = sum(draft.is_active for draft in drafts)
        self.stdout.write(
            f"{len(drafts)} products in the file, {on_sale} of them for sale. New: {loaded.categories} categories, "
            f"{loaded.products} products, {loaded.skus} SKUs, {loaded.prices} prices."
        )
