"""Orders that are committed by their own request, not in a batch: those of SKUs whose strategy is not `merged`.

Such a claim may wait, for a lock or for its turn in a queue, and a batch would wait with it.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from django.conf import settings

from apps.inventory.domain import Strategy
from infra.errors import Overloaded
from infra.mysql.requests import end_request

Outcome = TypeVar("Outcome")

_turns: Final = {strategy: threading.BoundedSemaphore(settings.ORDER_APART_CONCURRENCY) for strategy in Strategy}


def commit_apart(strategy: Strategy, commit: Callable[[], Outcome], *, waited_s: float) -> Outcome:
    """Commit an order here and now and return its outcome; `waited_s` is what its request has waited so far.

    `ORDER_APART_CONCURRENCY` of one strategy are under way in a process at once, so that those which wait for each
    other leave connections to all others. Raises Overloaded, with nothing taken, where no turn comes free in time.
    """
    end_request()
    if not _turns[strategy].acquire(timeout=max(0.0, settings.ORDER_APART_WAIT_S - waited_s)):
        raise Overloaded("The request has waited too long. Nothing was taken.")
    try:
        return commit()
    finally:
        _turns[strategy].release()
