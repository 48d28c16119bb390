"""Reads the invoice file: lines of CSV, gathered by invoice. No judgement here, and no database."""

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, TextIO

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line as the file has it; `at` is local time of the shop, `customer` is empty for a guest."""

    code: str
    description: str
    quantity: int
    at: datetime
    unit_price: Decimal
    customer: str
    country: str


@dataclass(slots=True)
class SourceInvoice:
    """All lines of one invoice, in the order of the file."""

    number: str
    lines: list[SourceLine] = field(default_factory=list)


@dataclass(slots=True)
class SourceFile:
    """What was read; `malformed` are the numbers of file lines that are no invoice line."""

    invoices: dict[str, SourceInvoice] = field(default_factory=dict)
    line_count: int = 0
    malformed: list[int] = field(default_factory=list)


class NotAnInvoiceFile(ValueError):
    """The header is not that of an invoice file."""


def read_invoices(path: Path) -> SourceFile:
    """Read a CSV file, gzipped or plain. Raises NotAnInvoiceFile, OSError."""
    source = SourceFile()
    times: dict[str, datetime] = {}
    with _open_text(path) as text:
        rows = csv.reader(text)
        if tuple(next(rows, ())) != COLUMNS:
            raise NotAnInvoiceFile(f"{path} does not begin with {','.join(COLUMNS)}")
        for row in rows:
            source.line_count += 1
            try:
                number, code, description, quantity, at, unit_price, customer, country = row
                if at not in times:
                    times[at] = datetime.fromisoformat(at)
                line = SourceLine(
                    code=code.strip(),
                    description=" ".join(description.split()),
                    quantity=int(quantity),
                    at=times[at],
                    unit_price=Decimal(unit_price),
                    customer=customer.removesuffix(".0"),
                    country=country,
                )
                if not (number and line.code):
                    raise ValueError("no number or no code")  # noqa: TRY301
            except (ValueError, InvalidOperation):
                source.malformed.append(rows.line_num)
                continue
            invoice = source.invoices.get(number)
            if invoice is None:
                invoice = source.invoices[number] = SourceInvoice(number)
            invoice.lines.append(line)
    return source


def titles_by_code(invoices: Iterator[SourceInvoice]) -> dict[str, str]:
    """Return the first description of each code, for the lines that have none."""
    titles: dict[str, str] = {}
    for invoice in invoices:
        for line in invoice.lines:
            if line.description and line.code not in titles:
                titles[line.code] = line.description
    return titles


def _open_text(path: Path) -> TextIO:
    with path.open("rb") as raw:
        zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    if zipped:
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
