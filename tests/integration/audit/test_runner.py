"""Suspicions are read twice, what is young is in flight, and the command's exit tells the rest."""

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError

from apps.orders.audit import runner
from apps.orders.audit.findings import Finding
from apps.orders.audit.registry import CHECKS, Check
from apps.orders.audit.runner import audit, repair
from apps.orders.management.commands import audit as command

pytestmark = pytest.mark.usefixtures("committed")

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REREAD_AFTER_S", 0.01)
    monkeypatch.setattr(runner, "WAIT_BETWEEN_S", 0.05)
    monkeypatch.setattr(runner, "_recovering_since", lambda: LONG_AGO)


def finding(subject: str = "order 1", **fields: object) -> Finding:
    return Finding("test", "shard_0", subject, "is wrong", **fields)


def check_that_finds(*readings: list[Finding]) -> Check:
    """A check whose first, second, ... reading finds this; the last goes on."""
    left = list(readings)

    def find(alias: str, now: datetime) -> Iterator[Finding]:
        """Find what the test says."""
        yield from left.pop(0) if len(left) > 1 else left[0]

    return Check(find, lambda: ("shard_0",))


def test_nothing_found_is_clean() -> None:
    report = audit(checks=[check_that_finds([])])
    assert report.is_clean
    assert report.in_flight == ()


def test_what_is_there_at_both_readings_lasts() -> None:
    report = audit(checks=[check_that_finds([finding()])])
    assert [found.subject for found in report.lasting] == ["order 1"]


def test_what_is_gone_at_the_second_reading_was_read_a_moment_apart() -> None:
    assert audit(checks=[check_that_finds([finding()], [])]).is_clean


def test_what_only_the_second_reading_sees_is_no_finding_yet() -> None:
    report = audit(checks=[check_that_finds([finding("order 1")], [finding("order 2")])])
    assert report.is_clean


def test_what_is_younger_than_its_bound_is_in_flight_and_does_not_fail() -> None:
    young = finding(since=datetime.now(UTC) - timedelta(seconds=5), bound_s=60)
    report = audit(checks=[check_that_finds([young])])
    assert report.is_clean
    assert [found.subject for found in report.in_flight] == ["order 1"]


def test_what_is_older_than_its_bound_lasts() -> None:
    old = finding(since=datetime.now(UTC) - timedelta(seconds=61), bound_s=60)
    assert not audit(checks=[check_that_finds([old])]).is_clean


def test_bounds_count_from_when_the_databases_are_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_recovering_since", lambda: datetime.now(UTC) - timedelta(seconds=10))
    old = finding(since=LONG_AGO, bound_s=60)
    assert audit(checks=[check_that_finds([old])]).is_clean


def test_waiting_ends_as_soon_as_all_has_settled() -> None:
    young = finding(since=datetime.now(UTC), bound_s=60)
    started_at = time.monotonic()
    report = audit(checks=[check_that_finds([young], [young], [young], [])], wait_s=30)
    assert report.in_flight == ()
    assert time.monotonic() - started_at < 5


def test_waiting_ends_in_time_when_nothing_settles() -> None:
    started_at = time.monotonic()
    report = audit(checks=[check_that_finds([finding()])], wait_s=0.5)
    assert not report.is_clean
    assert time.monotonic() - started_at < 3


def test_a_database_that_cannot_be_read_is_a_finding() -> None:
    def fail(alias: str, now: datetime) -> Iterator[Finding]:
        """Fail."""
        raise OperationalError(2002, "Can't connect")

    report = audit(checks=[Check(fail, lambda: ("shard_1",))])
    assert [(found.check, found.alias) for found in report.lasting] == [("unreadable", "shard_1")]


def test_repair_tells_what_was_mended_and_what_was_not() -> None:
    mended: list[datetime] = []

    def fail(now: datetime) -> None:
        raise OperationalError(1205, "Lock wait timeout")

    outcomes = repair([finding(mend=mended.append), finding(), finding(mend=fail)])
    assert [outcome.split(":")[0] for _, outcome in outcomes] == ["mended", "cannot be mended by itself", "not mended"]
    assert len(mended) == 1


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run the command with some checks; returns its exit status and output."""

    def run_with(check: Check, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(command, "audit", lambda wait_s: audit(wait_s=wait_s, checks=[check]))
        out = io.StringIO()
        try:
            call_command("audit", *arguments, stdout=out, stderr=io.StringIO())
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
        return 0, out.getvalue()

    return run_with


def test_the_command_prints_a_table_and_fails_on_what_lasts(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(check_that_finds([finding()]))
    assert status == 1
    assert "LASTING" in out
    assert "order 1" in out
    assert "1 lasting findings, 0 in flight" in out


def test_the_command_succeeds_on_what_is_in_flight_and_shows_it(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(check_that_finds([finding(since=datetime.now(UTC), bound_s=60)]))
    assert status == 0
    assert "in flight" in out.splitlines()[1]


def test_the_command_prints_json_for_machines(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(check_that_finds([finding(since=LONG_AGO, bound_s=60)]), "--json")
    told = json.loads(out)
    assert status == 1
    assert told["clean"] is False
    assert told["lasting"] == [
        {
            "check": "test",
            "alias": "shard_0",
            "subject": "order 1",
            "detail": "is wrong",
            "since": "2020-01-01T00:00:00+00:00",
            "repairable": False,
        }
    ]


def test_the_command_repairs_and_reads_again(run: Callable[..., tuple[int, str]]) -> None:
    broken = [True]

    def find(alias: str, now: datetime) -> Iterator[Finding]:
        """Find until it is mended."""
        if broken:
            yield finding(mend=lambda at: broken.clear())

    status, out = run(Check(find, lambda: ("shard_0",)), "--repair")
    assert status == 0
    assert "0 lasting findings" in out


def test_every_check_says_what_it_makes_sure_of_and_reads_all_its_databases() -> None:
    assert len({check.find for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.title.endswith((".", ","))
        for alias in check.aliases():
            list(check.find(alias, datetime.now(UTC)))
