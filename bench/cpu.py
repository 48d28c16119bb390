"""CPU that the stack's programs use, their children included, read from /proc."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from bench.stack import process_ids

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Snapshot = Mapping[tuple[str, int], float]
"""CPU seconds by a program's name and process id: a program that was restarted has begun anew."""


def cpu_by_process() -> Snapshot:
    """Return the CPU seconds that each program, its children and those that it has already buried have used."""
    names = {pid: name for name, pid in process_ids().items()}
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
            used_s[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS_PER_S
    totals = {(name, pid): 0.0 for pid, name in names.items()}
    for pid, seconds in used_s.items():
        ancestor: int | None = pid
        while ancestor is not None and ancestor not in names:
            ancestor = parents.get(ancestor)
        if ancestor is not None:
            totals[names[ancestor], ancestor] += seconds
    return totals


def cpu_us_each(before: Snapshot, after: Snapshot, *, count: int) -> dict[str, float]:
    """Return the CPU microseconds that each program used between two snapshots for each of `count` requests.

    What a program used that was killed in between is lost with it.
    """
    used_s: defaultdict[str, float] = defaultdict(float)
    for (name, pid), seconds in after.items():
        used_s[name] += seconds - before.get((name, pid), 0.0)
    return {name: round(seconds * 1e6 / max(1, count), 1) for name, seconds in used_s.items()}
