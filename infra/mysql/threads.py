"""Calling what blocks in a thread, and leaving it behind when its time is up."""

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.threadpool import ThreadPool

R = TypeVar("R")


def call_in_thread(
    threads: ThreadPool,
    function: Callable[[], R],
    *,
    timeout_s: float,
    timeout_error: type[BaseException],
    dispose: Callable[[R], None] | None = None,
) -> R:
    """Return `function()`, called in one of `threads` while other greenlets run.

    After `timeout_s` seconds, the wait for a free thread included, raises `timeout_error`; the call goes on alone, and
    what it returns in the end is given to `dispose`, which must not wait. The same when the waiting greenlet is killed.
    """
    job = None
    timer = gevent.Timeout.start_new(timeout_s, timeout_error)
    try:
        job = threads.spawn(function)
        return job.get()
    except BaseException:
        if job is not None and dispose is not None:
            job.rawlink(lambda ended: dispose(ended.value) if ended.successful() else None)
        raise
    finally:
        timer.close()
