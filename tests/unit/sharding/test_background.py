"""Periodic work: one thread a process, which survives its failures; calls apart end in time."""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from infra.sharding import background
from infra.sharding.background import Periodic, call_apart


@pytest.fixture
def make_periodic() -> Iterator[Callable[[float, Callable[[], object]], Periodic]]:
    made: list[Periodic] = []

    def make(interval_s: float, fn: Callable[[], object]) -> Periodic:
        periodic = Periodic(f"test-{len(made)}", interval_s, fn)
        made.append(periodic)
        return periodic

    yield make
    for periodic in made:
        periodic.stop()
        del background._REGISTERED[periodic.name]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_work_is_repeated_and_a_failure_does_not_end_it(make_periodic: Callable[..., Periodic]) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("the database is away")

    make_periodic(0.01, fail).start()
    wait_until(lambda: len(calls) >= 3)


def test_the_first_calls_are_waited_for_no_longer_than_asked(
    make_periodic: Callable[..., Periodic], monkeypatch
) -> None:
    failures = iter([RuntimeError("not yet")])

    def fail_once() -> None:
        for failure in failures:
            raise failure

    recovers, away = make_periodic(0.01, fail_once), make_periodic(60, lambda: 1 / 0)
    monkeypatch.setattr(background, "_REGISTERED", {periodic.name: periodic for periodic in (recovers, away)})
    for periodic in (recovers, away):
        periodic.start()
        periodic.wake()

    assert recovers.wait_for_success(5)
    assert background.wait_for_first_calls(timeout_s=0.05) == [away.name]
    monkeypatch.undo()


def test_starting_twice_starts_one_thread(make_periodic: Callable[..., Periodic]) -> None:
    periodic = make_periodic(60, lambda: None)
    periodic.start()
    before = set(threading.enumerate())
    periodic.start()
    assert not set(threading.enumerate()) - before


def test_waking_calls_at_once(make_periodic: Callable[..., Periodic]) -> None:
    called = threading.Event()
    periodic = make_periodic(60, called.set)
    periodic.start()
    periodic.wake()
    assert called.wait(5)


def test_a_child_made_by_fork_starts_its_own(make_periodic: Callable[..., Periodic]) -> None:
    periodic = make_periodic(60, lambda: None)
    periodic.start()
    child = os.fork()
    if child == 0:
        before = [thread.name for thread in threading.enumerate()].count(periodic.name)
        periodic.start()
        after = [thread.name for thread in threading.enumerate()].count(periodic.name)
        os._exit(0 if (before, after) == (0, 1) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_starts_on_use_where_the_setting_says_so(
    make_periodic: Callable[..., Periodic],
) -> None:
    periodic = make_periodic(60, lambda: None)
    threads_before = set(threading.enumerate())
    periodic.start_on_use()
    assert periodic.name not in [thread.name for thread in set(threading.enumerate()) - threads_before]


def test_a_name_is_given_once(make_periodic: Callable[..., Periodic]) -> None:
    periodic = make_periodic(60, lambda: None)
    with pytest.raises(ValueError, match="already"):
        Periodic(periodic.name, 60, lambda: None)


def test_a_call_apart_gives_back_results_and_errors_and_ends_in_time() -> None:
    assert call_apart(lambda: 7, timeout_s=5) == 7
    with pytest.raises(ZeroDivisionError):
        call_apart(lambda: 1 // 0, timeout_s=5)
    with pytest.raises(TimeoutError):
        call_apart(lambda: time.sleep(1), timeout_s=0.05)
