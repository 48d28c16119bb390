"""Hashing and checking passwords, off the event loop and bounded.

Argon2id takes 20 to 40 ms and 19 MiB: under gevent it runs in native threads of its own, so that other requests go on;
elsewhere in the calling thread. Beyond a bounded number of waiting calls the answer is 503 at once; one that has waited
too long, since the machine is slower than its queue, is told so without being hashed.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from gevent import monkey
from gevent.threadpool import ThreadPool

from apps.users.domain import normalise_password
from infra.errors import Overloaded

T = TypeVar("T")
_BUSY: Final = "Too many logins at once. Nothing was taken."
_NOBODYS_PASSWORD: Final = "nobody has this password"  # noqa: S105


class HashingThreads:
    """A bounded number of native threads with a bounded queue; one a process."""

    def __init__(self) -> None:
        self._pid = 0
        self._admitted = 0
        self._lock = threading.Lock()
        self._run: Callable[..., Any]

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call the function in a hashing thread and wait for it; raises Overloaded for a full or a slow queue."""
        self._admit()
        begin_by = time.monotonic() + settings.PASSWORD_HASH_WAIT_S
        try:
            return self._run(_unless_late, begin_by, function, *arguments)
        finally:
            with self._lock:
                self._admitted -= 1

    def _admit(self) -> None:
        with self._lock:
            if self._pid != os.getpid():  # the first call, or the first one after a fork
                self._pid, self._admitted, self._run = os.getpid(), 0, _runner(settings.PASSWORD_HASH_THREADS)
            if self._admitted >= settings.PASSWORD_HASH_THREADS + settings.PASSWORD_HASH_QUEUE:
                raise Overloaded(_BUSY)
            self._admitted += 1


def _unless_late(begin_by: float, function: Callable[..., T], *arguments: object) -> T:
    if time.monotonic() > begin_by:
        raise Overloaded(_BUSY)
    return function(*arguments)


def _runner(thread_count: int) -> Callable[..., Any]:
    """Return what calls a function: a pool of native threads under gevent, else a limit on the callers' own."""
    if monkey.is_module_patched("threading"):
        pool = ThreadPool(thread_count)
        return lambda function, *arguments: pool.spawn(function, *arguments).get()
    slots = threading.BoundedSemaphore(thread_count)

    def run(function: Callable[..., Any], *arguments: object) -> Any:
        with slots:
            return function(*arguments)

    return run


_threads: Final = HashingThreads()


def hash_password(password: str) -> str:
    """Return the encoded hash of a password; raises Overloaded."""
    return _threads.call(make_password, normalise_password(password))


def is_password(password: str, encoded: str) -> bool:
    """Tell whether the hash is of this password; raises Overloaded.

    Takes as long without a hash (an unknown login, a customer without password) as with one.
    """
    return _threads.call(_check, normalise_password(password), encoded)


def _check(password: str, encoded: str) -> bool:
    decoy = _decoy()  # made before the first answer, whichever kind that is
    matches = check_password(password, encoded or decoy)
    return matches and bool(encoded)


@lru_cache(maxsize=1)
def _decoy() -> str:
    return make_password(_NOBODYS_PASSWORD)
