"""What an import did with the file, counted so that every line is accounted for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from apps.orders.importing.classify import Kind, PastOrder, Verdict, is_of_invoice
from apps.orders.importing.parse import SourceFile


@dataclass(slots=True)
class ImportReport:
    """Counts of one run; `text` is what the command prints."""

    line_count: int
    malformed: list[int]
    invoice_count: int
    is_dry_run: bool
    orders: list[PastOrder] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    lines_by_kind: Counter[Kind] = field(default_factory=Counter)
    invoices_by_kind: Counter[Kind] = field(default_factory=Counter)
    rejected_line_count: int = 0
    user_count: int = 0
    written_count: int = 0

    @classmethod
    def of(cls, source: SourceFile, *, is_dry_run: bool) -> "ImportReport":
        """Return the report of a file of which nothing has been judged yet."""
        return cls(source.line_count, source.malformed, len(source.invoices), is_dry_run)

    def add(self, number: str, line_count: int, verdict: Verdict) -> None:
        """Count what became of one invoice."""
        self.lines_by_kind.update(verdict.kinds)
        self.invoices_by_kind.update(verdict.kinds.keys())
        if verdict.order is None:
            self.rejected.append(number)
            self.rejected_line_count += line_count
        else:
            self.orders.append(verdict.order)

    def text(self) -> Iterator[str]:
        """Yield the lines of the report."""
        kept = sum(len(order.lines) for order in self.orders)
        yield f"{self.line_count:>9,} lines read, {self.invoice_count:,} invoices"
        yield f"{len(self.malformed):>9,} lines malformed, rejected{_examples(self.malformed)}"
        rejected = f"{len(self.rejected)} invoices rejected{_examples(self.rejected)}"
        yield f"{self.rejected_line_count:>9,} lines of {rejected}"
        yield f"{kept:>9,} lines in {len(self.orders):,} orders of {self.user_count:,} users"
        yield ""
        yield "    lines  invoices  kind: what is done with it"
        for kind in Kind:
            scope = "" if is_of_invoice(kind) else "line with "
            yield f"{self.lines_by_kind[kind]:>9,} {self.invoices_by_kind[kind]:>9,}  {scope}{kind}"
        yield ""
        if self.is_dry_run:
            yield "dry run: nothing was written"
        else:
            already = len(self.orders) - self.written_count
            yield f"{self.written_count:>9,} orders written, {already:,} were there already"


def _examples(items: list[int] | list[str]) -> str:
    shown = ", ".join(str(item) for item in items[:10])
    return f" ({shown}{', ...' if len(items) > 10 else ''})" if items else ""
