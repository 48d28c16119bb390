"""What each part of the hot path is worth: `place` with one part switched off at a time, each on a fresh stack.

The parts are what an operator can switch off by a setting. Each row has a stack of its own, made anew and deleted
afterwards, beside the one that runs: what an earlier row left behind would be worked off in the next one's time. So the
running stack is not loaded, and loses nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from bench.result import Result, Table
from bench.scenario import Options, Scenario, Workspace
from bench.stack import ROOT

_INSTANCE = "bench-ablation"
# Between the ports of the running stack, whose parts stand at 0 to 3, 88, 306 to 308, 379 and 380 from its first.
_PORTS_BESIDE = 20
_START_WITHIN_S = 400
_BENCH_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the hot path and the settings without it."""

    name: str
    without: Mapping[str, str] = field(default_factory=dict)


WHOLE = Part("all parts")
PARTS = (
    WHOLE,
    Part("group commit", {"FLOODGATE_ORDER_COMMIT_BATCH": "1"}),
    Part("linger", {"FLOODGATE_ORDER_COMMIT_LINGER_S": "0"}),
    Part("lean worker", {"FLOODGATE_WORKER": "stock"}),
    Part("fast lane", {"FLOODGATE_FAST_LANE": "off"}),
    Part("token memory", {"FLOODGATE_ACCESS_TOKENS_REMEMBERED": "0"}),
)


class AblationScenario(Scenario):
    """`place` with group commit, linger, lean worker, fast lane and token memory switched off, one at a time."""

    name = "ablation"
    connections = 256

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Bench each part's stack; the figures of the whole are the result's own."""
        rows = []
        for part in PARTS:
            figures = _bench(part, options)
            rows.append((part, figures))
            told = "with" if part is WHOLE else "without"
            print(f"  {told} {part.name}: {figures['qps']:,.0f}/s, ratio {figures['ratio']:.3f}", flush=True)
        whole = Result(**rows[0][1])
        whole.scenario = self.name
        whole.failures = [f"{part.name}: {failure}" for part, figures in rows for failure in figures["failures"]]
        whole.tables = [_table(rows)]
        return whole


def _bench(part: Part, options: Options) -> dict[str, Any]:
    """Return the result of `place` on a stack that is made for it and deleted again."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOODGATE_", "DJANGO_"))}
    environment = inherited | dict(part.without)
    bench = [
        "exec", "--", sys.executable, "-m", "bench.run", "place", "--connections", str(options.connections),
        "--seconds", str(options.seconds), "--at", options.at,
    ]  # fmt: skip
    _stack(["reset"], environment, within_s=_START_WITHIN_S)
    try:
        _stack(["up"], environment, within_s=_START_WITHIN_S)
        with tempfile.TemporaryDirectory(prefix="floodgate-bench-") as folder:
            _stack([*bench, "--results", folder], environment, within_s=_BENCH_WITHIN_S, may_fail=True)
            figures: dict[str, Any] = json.loads((Path(folder) / "latest-place.json").read_text())
    finally:
        _stack(["down"], environment, within_s=_START_WITHIN_S)
    _stack(["reset"], environment, within_s=_START_WITHIN_S)  # a stack that failed keeps its logs
    return figures


def _stack(words: list[str], environment: Mapping[str, str], *, within_s: float, may_fail: bool = False) -> None:
    """Run one of the stack's commands on the instance of this scenario."""
    port_base = (urlsplit(settings.PUBLIC_URL).port or 8000) + _PORTS_BESIDE
    command = [
        sys.executable, str(ROOT / "deploy" / "local" / "stack.py"),
        "--instance", _INSTANCE, "--port-base", str(port_base), *words,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=within_s, check=False
    )
    if done.returncode != 0 and not may_fail:
        raise SystemExit(f"`{' '.join(words)}` on {_INSTANCE} failed:\n{done.stdout}{done.stderr}")


def _table(rows: list[tuple[Part, dict[str, Any]]]) -> Table:
    """A row for each part: what is left of the speed without it, as a ratio to C1 of the same minute."""
    whole = rows[0][1]
    return Table(
        "place without one part (each with a C1 of its own)",
        ["without", "orders/s", "C1", "ratio", "of the whole", "p50 ms", "p99 ms", "CPU µs an order"],
        [
            [
                "nothing" if part is WHOLE else part.name,
                figures["qps"],
                figures["control_qps"],
                figures["ratio"],
                round(figures["ratio"] / whole["ratio"], 2) if whole["ratio"] else 0.0,
                figures["p50_ms"],
                figures["p99_ms"],
                round(sum(figures["cpu_us_per_request"].values())),
            ]
            for part, figures in rows
        ],
    )


SCENARIOS = (AblationScenario,)
