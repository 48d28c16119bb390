"""The HTML report of a folder of results: one file with everything in it, plots included, which any browser opens.

The latest run of each scenario, what each of them tells beyond that, and how the ratios to C1 went from run to run.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.io import to_html

from bench.result import Result, Table, load_history, text

REPORT = "report.html"
_BARS = {"place": 0.8, "flash-direct": 0.8, "read": 1.5}
"""What the ratio to C1 is to be at gunicorn's port."""

_COLOURS = [
    "#3b6fb6",
    "#e08a2e",
    "#4a9a5b",
    "#b5485b",
    "#7d62a8",
    "#8a6d4b",
    "#cf7fb3",
    "#6f7682",
    "#b0a436",
    "#3fa3b0",
]
_LEAST_SHARE = 0.02
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; background: #f6f7f9; margin: 0 auto; max-width: 1280px;
       padding: 24px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 19px; margin: 32px 0 8px; } h3 { font-size: 15px; margin: 16px 0 4px; }
p { margin: 4px 0 12px; color: #566071; }
section { background: #fff; border: 1px solid #e1e5ea; border-radius: 8px; padding: 14px 18px; margin: 14px 0;
          overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0;
text-align: right; border-bottom: 1px solid #edf0f3; white-space: nowrap; } th { color: #566071; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.good { color: #2c7a45; } .bad { color: #b3261e; font-weight: 600; }
"""


def write_report(folder: Path) -> Path:
    """Write the report of all results in a folder and return its path."""
    history = load_history(folder)
    latest = list({result.scenario: result for result in history}.values())
    machine = latest[-1].machine
    sections = [
        _section("Latest run of each scenario", _summary(latest)),
        _section("Requests a second, as a ratio to C1 of the same run", _plot(_ratios(latest), with_library=True)),
        _section("Time to the answer (of queued purchases: to the outcome)", _plot(_percentiles(latest))),
        _section("CPU a request, by program", _plot(_cpu(latest))),
        *(_section(result.scenario, _details(result)) for result in latest if result.tables or result.failures),
        _section("Ratio to C1, run after run", _plot(_course(history))),
    ]
    path = folder / REPORT
    path.write_text(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Floodgate bench</title>"
        f"<style>{_STYLE}</style></head><body><h1>Floodgate bench</h1>"
        f"<p>{escape(str(machine['cpu']))}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux"
        f" {escape(str(machine['kernel']))}, Python {machine['python']}. Everything, the load included, runs on this"
        " machine. C1 is a stock gunicorn with gevent that answers the same requests with fixed bytes.</p>"
        f"{''.join(sections)}</body></html>\n"
    )
    return path


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2><section>{body}</section>"


def _summary(latest: Sequence[Result]) -> str:
    columns = [
        "scenario", "when", "port", "connections", "a second", "C1", "ratio", "p50 ms", "p99 ms", "errors",
        "acknowledged", "stored", "audit", "verdict",
    ]  # fmt: skip
    rows = [
        [
            result.scenario,
            result.at[:16].replace("T", " "),
            result.port,
            text(result.connections),
            f"{result.qps:,.0f}",
            f"{result.control_qps:,.0f}",
            f"{result.ratio:.3f}",
            f"{result.p50_ms:,.0f}",
            f"{result.p99_ms:,.0f}",
            text(sum(result.errors.values())),
            text(result.acknowledged),
            text(result.stored),
            text(result.audit_findings),
            "failed" if result.failures else "holds",
        ]
        for result in latest
    ]
    return _html_table(columns, rows)


def _details(result: Result) -> str:
    failures = "".join(f"<p class=bad>{escape(failure)}</p>" for failure in result.failures)
    return failures + "".join(_detail(table) for table in result.tables)


def _detail(table: Table) -> str:
    rows = [[text(cell) for cell in row] for row in table.rows]
    return f"<h3>{escape(table.title)}</h3>{_html_table(table.columns, rows)}"


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    verdicts = {"holds": " class=good", "failed": " class=bad"}
    body = "".join(
        "<tr>" + "".join(f"<td{verdicts.get(cell, '')}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _ratios(latest: Sequence[Result]) -> go.Figure:
    """A bar a scenario, and a mark where it is to come to."""
    names = [result.scenario for result in latest]
    figure = go.Figure(
        go.Bar(
            x=names,
            y=[result.ratio for result in latest],
            text=[f"{result.ratio:.2f}" for result in latest],
            marker_color=_COLOURS[0],
            name="measured",
        )
    )
    wanted = [(result.scenario, _BARS[result.scenario]) for result in latest if _is_measured_by_bar(result)]
    if wanted:
        figure.add_scatter(
            x=[name for name, _ in wanted],
            y=[bar for _, bar in wanted],
            mode="markers",
            marker={"symbol": "line-ew", "size": 46, "line": {"width": 3, "color": _COLOURS[3]}},
            name="is to be",
        )
    return figure.update_layout(yaxis_title="ratio to C1")


def _is_measured_by_bar(result: Result) -> bool:
    return result.scenario in _BARS and result.port == "internal"


def _percentiles(latest: Sequence[Result]) -> go.Figure:
    """Four bars a scenario, on a logarithmic axis."""
    names = [result.scenario for result in latest]
    figures = {
        "p50": [result.p50_ms for result in latest],
        "p90": [result.p90_ms for result in latest],
        "p95": [result.p95_ms for result in latest],
        "p99": [result.p99_ms for result in latest],
    }
    bars = [
        go.Bar(x=names, y=values, name=name, marker_color=colour, text=[f"{value:,.0f}" for value in values])
        for (name, values), colour in zip(figures.items(), _COLOURS, strict=False)
    ]
    return go.Figure(bars).update_layout(barmode="group", yaxis_title="ms", yaxis_type="log", yaxis_dtick="D2")


def _cpu(latest: Sequence[Result]) -> go.Figure:
    """A stacked bar a scenario; what takes next to nothing everywhere is left out."""
    measured = [result for result in latest if result.cpu_us_per_request]
    total_us = {result.scenario: sum(result.cpu_us_per_request.values()) for result in measured}
    programs = {program: None for result in measured for program in result.cpu_us_per_request}
    shown = [
        program
        for program in programs
        if any(
            result.cpu_us_per_request.get(program, 0) >= _LEAST_SHARE * total_us[result.scenario] for result in measured
        )
    ]
    bars = [
        go.Bar(
            x=[result.scenario for result in measured],
            y=[result.cpu_us_per_request.get(program, 0) for result in measured],
            name=program,
            marker_color=_COLOURS[number % len(_COLOURS)],
        )
        for number, program in enumerate(shown)
    ]
    return go.Figure(bars).update_layout(barmode="stack", yaxis_title="µs a request")


def _course(history: Sequence[Result]) -> go.Figure:
    """A line a scenario; runs at another port or with other connections are told by the hover."""
    figure = go.Figure()
    for number, name in enumerate(dict.fromkeys(result.scenario for result in history)):
        runs = [result for result in history if result.scenario == name]
        figure.add_scatter(
            x=[run.at for run in runs],
            y=[run.ratio for run in runs],
            mode="lines+markers",
            name=name,
            marker_color=_COLOURS[number % len(_COLOURS)],
            text=[f"{run.qps:,.0f}/s, {run.connections:,} connections, {run.port} port" for run in runs],
        )
    return figure.update_layout(yaxis_title="ratio to C1", yaxis_rangemode="tozero")


def _plot(figure: go.Figure, *, with_library: bool = False) -> str:
    """Return a figure as HTML; the first one of a page brings plotly's own code along."""
    figure.update_layout(
        template="plotly_white",
        height=360,
        margin={"l": 60, "r": 20, "t": 20, "b": 40},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": -0.15},
    )
    return str(
        to_html(
            figure, include_plotlyjs=with_library, full_html=False, config={"displaylogo": False, "responsive": True}
        )
    )
