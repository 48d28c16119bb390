"""The circuit breaker, moved through its states by a clock of the test's own."""

import contextlib
import threading

import pytest

from infra.resilience.breaker import Breaker, CircuitOpen, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("shard_0", failure_threshold=3, reset_after_s=2.0, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="away"):
            breaker.call(_raise, OSError("away"))


def _raise(error: BaseException) -> None:
    raise error


def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker):
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen) as refusal:
        breaker.call(_raise, AssertionError("must not be called"))
    assert refusal.value.retry_after_s == 2.0


def test_a_success_in_between_begins_the_count_anew(breaker: Breaker):
    fail(breaker, 2)
    breaker.call(lambda: None)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_after_a_while_one_probe_passes_and_closes_it(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 2.0
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit() is True
    with pytest.raises(CircuitOpen):
        breaker.admit()
    breaker.record_success()
    assert breaker.state is State.CLOSED
    assert breaker.admit() is False


def test_a_failed_probe_opens_it_for_another_while(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 2.0
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    clock.now += 1.9
    with pytest.raises(CircuitOpen):
        breaker.admit()
    clock.now += 0.1
    assert breaker.admit() is True


def test_late_failures_of_earlier_calls_do_not_prolong_it(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 1.9
    breaker.record_failure()
    clock.now += 0.1
    assert breaker.admit() is True


def test_a_late_success_of_an_earlier_call_closes_it(breaker: Breaker):
    fail(breaker, 3)
    breaker.record_success()
    assert breaker.is_closed


def test_a_killed_probe_makes_room_for_the_next(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 2.0
    with pytest.raises(KeyboardInterrupt):
        breaker.call(_raise, KeyboardInterrupt())
    assert breaker.admit() is True


def test_a_probe_that_never_ends_does_not_keep_it_open_for_good(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 2.0
    assert breaker.admit() is True
    clock.now += 9.9
    with pytest.raises(CircuitOpen):
        breaker.admit()
    clock.now += 0.1
    assert breaker.admit() is True


def test_many_threads_get_one_probe_between_them(breaker: Breaker, clock: Clock):
    fail(breaker, 3)
    clock.now += 2.0
    barrier = threading.Barrier(16)
    admitted = []

    def ask() -> None:
        barrier.wait()
        with contextlib.suppress(CircuitOpen):
            admitted.append(breaker.admit())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted == [True]
