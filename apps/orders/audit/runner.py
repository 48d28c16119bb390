"""Runs the checks, reads suspicions again, and tells what lasts from what is in flight."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connections

from apps.orders.audit.findings import Finding
from apps.orders.audit.reading import fetch
from apps.orders.audit.registry import CHECKS, Check
from infra.errors import DomainError

REREAD_AFTER_S: Final = 1.0
WAIT_BETWEEN_S: Final = 2.0
QUERY_TIMEOUT_S: Final = 120.0
THREADS: Final = 3

Unit = tuple[Check, str]


@dataclass(frozen=True, slots=True)
class Report:
    """What the audit found, split by whether it counts."""

    lasting: tuple[Finding, ...]
    in_flight: tuple[Finding, ...]
    checks_count: int
    duration_s: float

    @property
    def is_clean(self) -> bool:
        """Whether all invariants hold, apart from what is still within its recovery bound."""
        return not self.lasting


def audit(*, wait_s: float = 0.0, checks: Sequence[Check] = CHECKS) -> Report:
    """Run the checks over all databases and return what they found.

    A finding counts when it is there at two readings. With `wait_s` the suspicious checks are read again until nothing
    is left or the time is over, so that what is in flight can settle.
    """
    started_at = time.monotonic()
    units: list[Unit] = [(check, alias) for check in checks for alias in check.aliases()]
    findings = _run(units)
    if any(findings.values()):
        time.sleep(REREAD_AFTER_S)
        findings = _read_again(findings)
    while any(findings.values()) and time.monotonic() - started_at + WAIT_BETWEEN_S < wait_s:
        time.sleep(WAIT_BETWEEN_S)
        findings = _read_again(findings)
    now, recovering_since = datetime.now(UTC), _recovering_since()
    found = [finding for members in findings.values() for finding in members]
    in_flight = [each for each in found if each.is_in_flight(now=now, recovering_since=recovering_since)]
    return Report(
        lasting=tuple(each for each in found if each not in in_flight),
        in_flight=tuple(in_flight),
        checks_count=len(units),
        duration_s=time.monotonic() - started_at,
    )


def repair(findings: Sequence[Finding]) -> list[tuple[Finding, str]]:
    """Mend what can be mended; return each finding with what came of it."""
    outcomes: list[tuple[Finding, str]] = []
    for finding in findings:
        if finding.mend is None:
            outcomes.append((finding, "cannot be mended by itself"))
            continue
        try:
            finding.mend(datetime.now(UTC))
        except (DatabaseError, DomainError) as error:
            outcomes.append((finding, f"not mended: {type(error).__name__}: {error}"))
        else:
            outcomes.append((finding, "mended"))
    return outcomes


def _read_again(findings: dict[Unit, list[Finding]]) -> dict[Unit, list[Finding]]:
    """Run the suspicious checks again; only what both readings found stays."""
    again = _run([unit for unit, members in findings.items() if members])
    return {
        unit: [finding for finding in members if finding.key in {known.key for known in findings[unit]}]
        for unit, members in again.items()
    }


def _run(units: Sequence[Unit]) -> dict[Unit, list[Finding]]:
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(units, pool.map(_run_one, units), strict=True))


def _run_one(unit: Unit) -> list[Finding]:
    """Run one check in a thread of the pool, on connections of its own."""
    check, alias = unit
    try:
        with ExitStack() as patient:
            for each in settings.DATABASES:
                connection: Any = connections[each]
                patient.enter_context(connection.patience(QUERY_TIMEOUT_S))
            return list(check.find(alias, datetime.now(UTC)))
    except (DatabaseError, DomainError) as error:
        return [Finding("unreadable", alias, check.find.__name__, f"{type(error).__name__}: {error}")]
    finally:
        connections.close_all()


def _recovering_since() -> datetime:
    """Return when the server that started last came up: recovery bounds count from then."""
    uptimes = []
    for alias in settings.DATABASES:
        try:
            [(_, uptime_s)] = fetch(alias, "SHOW GLOBAL STATUS LIKE 'Uptime'")
        except DatabaseError:
            continue
        uptimes.append(int(uptime_s))
    return datetime.now(UTC) - timedelta(seconds=min(uptimes, default=0))
