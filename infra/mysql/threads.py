"""Calling what blocks in a thread, and leaving it behind when its time is up."""

from collections.abc import Callable
from typing import Any, TypeVar

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

    After `timeout_s` seconds, a free thread's coming included, raises `timeout_error`; the call goes on alone, and what
    it returns in the end is given to `dispose`, in its thread. The same when the waiting greenlet is killed.
    """
    left = False

    def call() -> Any:
        result = function()
        if left and dispose is not None:
            dispose(result)
        return result

    job = None
    timer = gevent.Timeout.start_new(timeout_s, timeout_error)
    try:
        job = threads.spawn(call)
        return job.get()
    except BaseException:
        left = True
        if job is not None and dispose is not None and job.ready() and job.successful():
            # It ended between the deadline and here.
            dispose(job.value)
        raise
    finally:
        timer.close()
