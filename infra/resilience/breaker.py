"""A circuit breaker: stops asking what does not answer, and asks again, once, after a while."""

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# A probe whose outcome never arrives (its greenlet was killed) stops counting as under way after this many resets.
_LOST_PROBE_RESETS: Final = 5


class State(StrEnum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitOpen(Exception):
    """The breaker refuses the call; `retry_after_s` is the time until it may let a probe through, in seconds."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name}: circuit open, next probe in {max(retry_after_s, 0):.1f} s")
        self.retry_after_s = retry_after_s


class Breaker:
    """Opens after `failure_threshold` failures in a row; after `reset_after_s` seconds lets one probe through.

    The probe's success closes it, its failure opens it for another `reset_after_s`. Any success of a call that was
    under way closes it too: it proves that the other side lives. Safe between threads and between greenlets, and
    never waits. Use it as a context manager, through `call`, or, where only some errors are failures, through
    `admit`, `record_success` and `record_failure`.
    """

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int,
        reset_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        # Plain attributes, for hot paths: whether calls pass, and failures in a row.
        self.is_closed = True
        self.failure_count = 0
        self._failure_threshold = failure_threshold
        self._reset_after_s = reset_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._opened_at: float | None = None
        self._probe_started_at: float | None = None

    @property
    def state(self) -> State:
        """The state now, for decisions that need no probe and for metrics."""
        opened_at = self._opened_at
        if opened_at is None:
            return State.CLOSED
        if self._clock() - opened_at >= self._reset_after_s:
            return State.HALF_OPEN
        return State.OPEN

    def admit(self) -> bool:
        """Let a call through or raise CircuitOpen; True means that the caller is the probe and owes an outcome."""
        if self._opened_at is None:
            return False
        with self._lock:
            if self._opened_at is None:
                return False
            now = self._clock()
            due_at = self._opened_at + self._reset_after_s
            if self._probe_started_at is not None:
                due_at = max(due_at, self._probe_started_at + self._reset_after_s * _LOST_PROBE_RESETS)
            if now < due_at:
                raise CircuitOpen(self.name, due_at - now)
            self._probe_started_at = now
            return True

    def record_success(self) -> None:
        """Note that the other side answered; closes the breaker."""
        if self._opened_at is None and not self.failure_count:
            return
        with self._lock:
            self.failure_count = 0
            self.is_closed = True
            self._opened_at = None
            self._probe_started_at = None

    def record_failure(self) -> None:
        """Note that the other side did not answer; opens the breaker at the threshold, or again after a probe."""
        with self._lock:
            self.failure_count += 1
            if self._probe_started_at is not None or self.failure_count >= self._failure_threshold:
                # A late failure of a call from before the opening does not prolong it.
                if self._opened_at is None or self._probe_started_at is not None:
                    self._opened_at = self._clock()
                    self.is_closed = False
                self._probe_started_at = None

    def withdraw_probe(self) -> None:
        """Note that a probe ended without an outcome (its caller was killed); the next call may probe."""
        with self._lock:
            self._probe_started_at = None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` through the breaker; every Exception it raises is a failure. Raises CircuitOpen."""
        with self:
            return function(*args, **kwargs)

    def __enter__(self) -> Self:
        self.admit()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.record_success()
        elif isinstance(exc, Exception):
            self.record_failure()
        else:
            self.withdraw_probe()
