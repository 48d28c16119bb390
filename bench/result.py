"""What a run has found: written as JSON, kept in the history, printed for a person."""

import json
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from bench.machine import machine
from bench.stack import ROOT

RESULTS = ROOT / "bench" / "results"

_HISTORY = "history.jsonl"

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one scenario only; each row has a cell a column."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(slots=True)
class Result:
    """One scenario's result; the fields that scripts rely on come first. Times in milliseconds unless named.

    `failures` has a sentence for everything that makes the run invalid or misses what must hold.
    """

    scenario: str
    qps: float
    control_qps: float
    ratio: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    errors: dict[str, int]
    cpu_us_per_request: dict[str, float]
    acknowledged: int
    stored: int
    audit_findings: int
    machine: dict[str, object] = field(default_factory=machine)
    port: str = "internal"
    connections: int = 0
    window_s: float = 0.0
    django_control_qps: float = 0.0
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    tables: list[Table] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check_books(self) -> None:
        """Note as failures what does not agree between clients, shards and audit."""
        if self.acknowledged != self.stored:
            self.failures.append(f"{self.acknowledged} orders were acknowledged and {self.stored} are stored")
        if self.audit_findings:
            self.failures.append(f"the audit has {self.audit_findings} findings")


def save(result: Result, folder: Path) -> Path:
    """Write the result as the latest of its scenario and add it to the history; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"latest-{result.scenario}.json"
    path.write_text(json.dumps(asdict(result), indent=2) + "\n")
    with (folder / _HISTORY).open("a") as history:
        history.write(json.dumps(asdict(result)) + "\n")
    return path


def load_history(folder: Path) -> list[Result]:
    """Return all results that were saved in a folder, oldest first."""
    path = folder / _HISTORY
    lines = path.read_text().splitlines() if path.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    for result in results:
        result.tables = [Table(**fields) for fields in cast("list[dict[str, Any]]", result.tables)]
    return results


def show(result: Result) -> None:
    """Print the result as a person reads it."""
    print(f"{result.scenario}: {result.qps:,.0f}/s at {result.connections:,} connections, {result.port} port")
    print(
        f"  C1 {result.control_qps:,.0f}/s, ratio {result.ratio:.3f}"
        f" (minimal Django view {result.django_control_qps:,.0f}/s)"
    )
    print(f"  ms: p50 {result.p50_ms}  p90 {result.p90_ms}  p95 {result.p95_ms}  p99 {result.p99_ms}")
    print(f"  errors: {result.errors or 'none'}")
    costs = sorted(result.cpu_us_per_request.items(), key=lambda cost: -cost[1])
    print("  CPU µs a request: " + ", ".join(f"{name} {cost:,.0f}" for name, cost in costs if cost >= 1))
    if result.acknowledged:
        print(
            f"  acknowledged {result.acknowledged:,}, stored {result.stored:,}, audit findings {result.audit_findings}"
        )
    for table in result.tables:
        _show_table(table)
    for failure in result.failures:
        print(f"FAILED: {failure}", file=sys.stderr)


def _show_table(table: Table) -> None:
    rows = [table.columns, *([text(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"  {table.title}")
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("    " + "  ".join([first.ljust(widths[0]), *cells]).rstrip())


def text(cell: Cell) -> str:
    """Return a cell as it is shown."""
    return cell if isinstance(cell, str) else f"{cell:,}"
