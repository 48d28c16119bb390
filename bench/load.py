"""Loads a server with wrk, which costs little, and returns what it saw (load.lua has the requests)."""

import re
import secrets
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.stack import ROOT

THREADS = 2
_DRAIN_S = 2
ANSWER_WITHIN_S = 10


class Percentiles(NamedTuple):
    """Of times, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float


def percentiles(times_s: Sequence[float]) -> Percentiles:
    """Return the percentiles of times in seconds; zeros of none."""
    ordered = sorted(times_s) or [0.0]
    return Percentiles(
        *(round(ordered[min(len(ordered) * share // 100, len(ordered) - 1)] * 1000, 3) for share in (50, 90, 95, 99))
    )


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk reported of one load."""

    window_s: float
    sent: int
    answered: int
    succeeded: int
    orders: int
    times: Percentiles
    socket_errors: int
    codes: dict[str, int]

    @property
    def per_second(self) -> float:
        """Successful answers a second of the sending window."""
        return self.succeeded / self.window_s


def run_wrk(
    script: str,
    url: str,
    files: Sequence[str],
    *,
    connections: int,
    window_s: float,
    period_s: float = 0.0,
    drain_s: int = _DRAIN_S,
) -> Load:
    """Load one server for the window with one of load.lua's scripts.

    Each connection sends its next request when it has its answer, or, with a `period_s`, once in that time: what is
    then offered does not depend on how quick the answers are. What is under way at the end of the window has `drain_s`
    seconds to be answered.
    """
    command = [
        "wrk", f"-t{THREADS}", f"-c{connections}", f"-d{int(window_s) + drain_s}s",
        "--timeout", f"{ANSWER_WITHIN_S}s", "-s", str(ROOT / "bench" / "load.lua"), url,
        "--", script, str(window_s), secrets.token_hex(6), str(THREADS), str(connections), str(period_s),
        *files,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=window_s + 30, check=False)
    if done.returncode != 0 or "BENCH answered" not in done.stdout:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    lines = re.findall(r"^BENCH (\w+) ?(.*)$", done.stdout, re.MULTILINE)
    figures = {name: float(value) for name, value in lines if name != "codes"}
    codes: Counter[str] = Counter()
    for name, value in lines:
        if name == "codes":
            codes.update({code: int(count) for code, count in re.findall(r"(\w+)=(\d+)", value)})
    return Load(
        window_s=window_s,
        sent=int(figures["sent"]),
        answered=int(figures["answered"]),
        succeeded=int(figures["succeeded"]),
        orders=int(figures["orders"]),
        times=Percentiles(*(figures[name] for name in Percentiles._fields)),
        socket_errors=int(figures["socket_errors"]),
        codes=dict(codes),
    )
