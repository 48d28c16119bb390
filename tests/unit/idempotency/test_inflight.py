"""Repeats within one process."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.idempotency.errors import RequestInProgress
from infra.idempotency.inflight import InFlight
from infra.idempotency.types import RequestKey

KEY = RequestKey(user_id=1, digest=b"d" * 32, body_digest=b"b" * 32)
OTHER_BODY = RequestKey(user_id=1, digest=b"d" * 32, body_digest=b"c" * 32)


class Attempts:
    """Attempts that wait for a sign, and count how many ran and how many ran at once."""

    def __init__(self) -> None:
        self.count = 0
        self.at_once = 0
        self.most_at_once = 0
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.count += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            own = self.count
        self.begun.set()
        assert self.may_end.wait(5)
        with self._lock:
            self.at_once -= 1
        return own


def test_all_repeats_of_a_running_request_share_its_answer():
    in_flight, attempts = InFlight[int](), Attempts()
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(in_flight.run, KEY, attempts, wait_s=5)
        assert attempts.begun.wait(5)
        repeats = [threads.submit(in_flight.run, KEY, attempts, wait_s=5) for _ in range(19)]
        wait_until_joined(repeats)
        attempts.may_end.set()

        assert first.result() == (1, False)
        assert {repeat.result() for repeat in repeats} == {(1, True)}
    assert attempts.count == 1


def test_a_repeat_with_another_body_makes_its_own_attempt_after_the_first():
    in_flight, attempts = InFlight[int](), Attempts()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(in_flight.run, KEY, attempts, wait_s=5)
        assert attempts.begun.wait(5)
        second = threads.submit(in_flight.run, OTHER_BODY, attempts, wait_s=5)
        wait_until_joined([second])
        attempts.may_end.set()

        assert first.result() == (1, False)
        assert second.result() == (2, False)
    assert attempts.most_at_once == 1


def test_a_refusal_is_shared_too_and_not_remembered():
    in_flight = InFlight[int]()
    begun, may_end = threading.Event(), threading.Event()

    def refuse():
        begun.set()
        assert may_end.wait(5)
        raise LookupError("no")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(in_flight.run, KEY, refuse, wait_s=5)
        assert begun.wait(5)
        second = threads.submit(in_flight.run, KEY, refuse, wait_s=5)
        wait_until_joined([second])
        may_end.set()
        for attempt in (first, second):
            with pytest.raises(LookupError):
                attempt.result()

    assert in_flight.run(KEY, lambda: 7, wait_s=1) == (7, False)


def test_an_attempt_that_is_killed_leaves_its_place_to_the_repeat():
    in_flight = InFlight[int]()
    begun, may_end = threading.Event(), threading.Event()

    def die():
        begun.set()
        assert may_end.wait(5)
        raise SystemExit

    def killed():
        with pytest.raises(SystemExit):
            in_flight.run(KEY, die, wait_s=5)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(killed)
        assert begun.wait(5)
        second = threads.submit(in_flight.run, KEY, lambda: 7, wait_s=5)
        wait_until_joined([second])
        may_end.set()

        first.result()
        assert second.result() == (7, False)


def test_a_repeat_does_not_wait_beyond_its_bound():
    in_flight, attempts = InFlight[int](), Attempts()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(in_flight.run, KEY, attempts, wait_s=5)
        assert attempts.begun.wait(5)

        with pytest.raises(RequestInProgress):
            in_flight.run(KEY, attempts, wait_s=0.01)
        attempts.may_end.set()
        assert first.result() == (1, False)


def wait_until_joined(repeats):
    """Give the repeats time to find the first attempt; they are then running and not done."""
    threading.Event().wait(0.05)
    assert not any(repeat.done() for repeat in repeats)
