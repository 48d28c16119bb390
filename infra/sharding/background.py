"""Work that a process does for itself in the background: renewing its lease, reading the slot map again.

A `Periodic` is one daemon thread in each process (a greenlet where gevent has patched threading). Nothing starts at
import or before a fork: gunicorn's post_worker_init and Celery's worker init call `start_all`, others start what they
use on first use. A child made by fork starts its own.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.conf import settings
from django.db import connections

logger = logging.getLogger(__name__)
T = TypeVar("T")

_REGISTERED: Final[dict[str, "Periodic"]] = {}
_ending: Final[list[tuple[int, Callable[[], None]]]] = []


class _StartedIn:
    """The process in which `start_all` was called, if any: a child made by fork is another one."""

    pid = 0


_all_started_in: Final = _StartedIn()


class Periodic:
    """Calls a function every `interval_s` seconds, in its own thread with its own database connections.

    A failing call is logged and tried again at the next turn; a slow one delays only itself.
    """

    def __init__(self, name: str, interval_s: float, fn: Callable[[], object]) -> None:
        if name in _REGISTERED:
            raise ValueError(f"There is already periodic work named {name!r}.")
        self.name = name
        self.interval_s = interval_s
        self._fn = fn
        self._pid = 0
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._succeeded = threading.Event()
        self._lock = threading.Lock()
        _REGISTERED[name] = self
        if _all_started_in.pid == os.getpid():
            self.start()

    def start(self) -> None:
        """Start in this process; no effect where it already runs."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            self._stopped, self._woken, self._succeeded = threading.Event(), threading.Event(), threading.Event()
            events = (self._stopped, self._woken, self._succeeded)
            threading.Thread(target=self._run, args=events, name=self.name, daemon=True).start()
            self._pid = os.getpid()

    def start_on_use(self) -> None:
        """Start because something was used that needs this work; tests keep it from starting by a setting."""
        if settings.BACKGROUND_STARTS_ON_USE:
            self.start()

    def wake(self) -> None:
        """Have the next call come at once."""
        self._woken.set()

    def stop(self) -> None:
        """Call no more; a call that runs is not waited for."""
        self._stopped.set()
        self._woken.set()
        self._pid = 0

    def wait_for_success(self, timeout_s: float) -> bool:
        """Wait until a call has succeeded since the start; False if none has within the time."""
        return self._succeeded.wait(timeout_s)

    def _run(self, stopped: threading.Event, woken: threading.Event, succeeded: threading.Event) -> None:
        while True:
            woken.wait(self.interval_s)
            woken.clear()
            if stopped.is_set():
                return
            try:
                self._fn()
                succeeded.set()
            except Exception:
                logger.warning("%s failed; next try in %s s", self.name, self.interval_s, exc_info=True)
            finally:
                connections.close_all()


def start_all() -> None:
    """Start all periodic work of this process, with a first call at once; what is loaded later starts when loaded."""
    _all_started_in.pid = os.getpid()
    for periodic in tuple(_REGISTERED.values()):
        periodic.start()
        periodic.wake()


def wait_for_first_calls(*, timeout_s: float) -> list[str]:
    """Wait until all periodic work of this process has been done once.

    Returns the names of what has not succeeded within `timeout_s` seconds; it goes on trying.
    """
    ends_at = time.monotonic() + timeout_s
    return [
        periodic.name
        for periodic in tuple(_REGISTERED.values())
        if not periodic.wait_for_success(max(0.0, ends_at - time.monotonic()))
    ]


def on_end(fn: Callable[[], None]) -> None:
    """Have a function called when this process ends in good order."""
    _ending.append((os.getpid(), fn))
    atexit.register(end_all)


def end_all() -> None:
    """Stop all periodic work and let go of what the process holds; for processes without Python's exit hooks."""
    for periodic in tuple(_REGISTERED.values()):
        periodic.stop()
    while _ending:
        pid, fn = _ending.pop()
        if pid == os.getpid():
            fn()


def call_apart(fn: Callable[[], T], *, timeout_s: float) -> T:
    """Call a function in a thread of its own, apart from any transaction of the caller, and wait for it.

    Raises what the function raises, and TimeoutError after `timeout_s` seconds; the call may then still end well or
    badly, unheard.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(fn())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="call-apart", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"No answer within {timeout_s} s.")
    return results[0]
