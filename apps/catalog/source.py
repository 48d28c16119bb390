"""The part of the real shop's file that the catalog is built from: reading it, and what its codes become.

A line a distinct (stock code, description, unit price), with the number of invoice lines that had it: enough to
rebuild every product. Pure but for opening the file.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from apps.catalog.domain import category_of, is_goods, sku_of_stock_code, title_of

PART: Final = Path(__file__).parent / "data" / "online-retail-codes.csv.gz"
COLUMNS: Final = ("StockCode", "Description", "UnitPrice", "Lines")
Value = TypeVar("Value", str, Decimal)
_CENT: Final = Decimal("0.01")


class CodeLine(NamedTuple):
    """How many invoice lines had this code, description and unit price."""

    code: str
    description: str
    unit_price: Decimal
    line_count: int


@dataclass(frozen=True, slots=True)
class SkuDraft:
    """A SKU to be; without a price it is not for sale."""

    code: str
    name: str
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class ProductDraft:
    """A product to be, under the upper-case form of its codes."""

    source_code: str
    title: str
    category: str
    skus: tuple[SkuDraft, ...]

    @property
    def is_active(self) -> bool:
        """Whether anything of it can be sold."""
        return any(sku.price is not None for sku in self.skus)


@dataclass(slots=True)
class Report:
    """What became of the codes: rows of (kind, what was done, number of codes, examples)."""

    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def note(self, kind: str, done: str, code: str) -> None:
        """Count a code under a kind."""
        self.examples.setdefault((kind, done), []).append(code)

    def rows(self) -> Iterator[tuple[str, str, int, str]]:
        """Yield the table's rows, most frequent first."""
        for (kind, done), codes in sorted(self.examples.items(), key=lambda item: -len(item[1])):
            yield kind, done, len(codes), ", ".join(codes[:4])


def read_part(path: Path = PART) -> Iterator[CodeLine]:
    """Yield the lines of the part. Raises ValueError when the file is not one."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}, not {COLUMNS}.")
        for row in reader:
            yield CodeLine(row["StockCode"], row["Description"], Decimal(row["UnitPrice"]), int(row["Lines"]))


def count_lines(rows: Iterable[dict[str, str]]) -> list[CodeLine]:
    """Fold the invoice lines of the original file into those of the part, in a fixed order."""
    counts = Counter(
        (row["StockCode"], " ".join(row["Description"].split()), Decimal(row["UnitPrice"])) for row in rows
    )
    return [CodeLine(*key, count) for key, count in sorted(counts.items())]


def draft_products(lines: Iterable[CodeLine]) -> tuple[list[ProductDraft], Report]:
    """Return the products that the codes become, ascending by code, and the report of what was unusual."""
    by_code: dict[str, list[CodeLine]] = {}
    for line in lines:
        by_code.setdefault(line.code, []).append(line)
    report = Report()
    families: dict[str, list[SkuDraft]] = {}
    for code, code_lines in sorted(by_code.items()):
        sku = _draft_sku(code, code_lines, report)
        if sku is not None:
            families.setdefault(sku.code.upper(), []).append(sku)
    return [_draft_product(source_code, skus, report) for source_code, skus in sorted(families.items())], report


def _draft_sku(code: str, lines: list[CodeLine], report: Report) -> SkuDraft | None:
    sku = sku_of_stock_code(code)
    if not is_goods(code) or sku is None:
        report.note("no goods (postage, fees, discounts, corrections)", "left out", code)
        if " " in code:
            report.note("a space in the code", "left out, being no goods", code)
        return None
    if sku != code:
        report.note("a space or another character that no SKU has", "replaced by -", code)
    if any(line.unit_price <= 0 for line in lines):
        report.note("lines with a price of zero or less", "not counted for the price", code)
    priced = [line for line in lines if line.unit_price > 0]
    # Notes of the shop's staff ("damaged", "ebay") stand on lines without a price.
    names = _counted((line.description, line.line_count) for line in priced or lines if line.description)
    if len(names) > 1:
        report.note("several descriptions", "the most frequent one is the title", code)
    if not names:
        report.note("no description", "the code is the title, not for sale", code)
        return SkuDraft(sku, f"Item {code}", None)
    price = _price_of(priced)
    if price is None:
        report.note("never sold at a price above zero", "kept, not for sale", code)
    return SkuDraft(sku, title_of(names[0]), price)


def _price_of(priced: list[CodeLine]) -> Decimal | None:
    prices = _counted((line.unit_price.quantize(_CENT, ROUND_HALF_UP), line.line_count) for line in priced)
    return prices[0] if prices and prices[0] > 0 else None


def _draft_product(source_code: str, skus: list[SkuDraft], report: Report) -> ProductDraft:
    leading = next((sku for sku in skus if sku.price is not None), skus[0])
    if len(skus) > 1:
        for sku in skus:
            report.note("codes that differ only by case", "SKUs of their own under one product", sku.code)
        skus = [SkuDraft(sku.code, f"{sku.name} ({sku.code})", sku.price) for sku in skus]
    return ProductDraft(source_code, leading.name, category_of(leading.name), tuple(skus))


def _counted(pairs: Iterable[tuple[Value, int]]) -> list[Value]:
    """Return the values by how often they occur, the smaller first among equals."""
    counts: Counter[Value] = Counter()
    for value, count in pairs:
        counts[value] += count
    return sorted(counts, key=lambda value: (-counts[value], value))
