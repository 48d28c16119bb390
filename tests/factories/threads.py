"""Work in threads that start together, for tests of races over committed rows."""

import threading
from collections.abc import Callable

from django.conf import settings
from django.db import connections


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """Call `work` in threads that start together; returns results and errors."""
    barrier, outcomes = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes.append(work(number))
        except Exception as error:  # noqa: BLE001
            outcomes.append(error)
        finally:
            for alias in settings.DATABASES:
                connections[alias].close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
