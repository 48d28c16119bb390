"""Make the shipped part of the Online Retail file from the whole one."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.catalog import source


class Command(BaseCommand):
    """Folds the invoice lines of the original into a line a distinct code, description and price."""

    help = "Make the part of the Online Retail file that load_catalog reads; the same file gives the same bytes."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the two files."""
        parser.add_argument("original", type=Path, help="the whole file, as gzipped CSV")
        parser.add_argument("--out", type=Path, default=source.PART)

    def handle(self, *args: Any, original: Path, out: Path, **options: Any) -> None:
        """Read, count and write."""
        with gzip.open(original, "rt", encoding="utf-8", newline="") as file:
            lines = source.count_lines(csv.DictReader(file))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(source.COLUMNS)
        writer.writerows(lines)
        # No time in the header, so that the same file comes out each time.
        out.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
        self.stdout.write(f"{len(lines)} lines, {out.stat().st_size} bytes in {out}")
