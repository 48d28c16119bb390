"""The one place where transactions are tried again after a deadlock or a lock wait."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError

from infra.mysql.errors import (
    is_connection_lost,
    is_deadlock,
    is_duplicate_key,
    is_lock_wait_timeout,
    is_missing_table,
)

__all__ = [
    "is_connection_lost",
    "is_deadlock",
    "is_duplicate_key",
    "is_lock_wait_timeout",
    "is_missing_table",
    "with_deadlock_retry",
]

R = TypeVar("R")
_log = logging.getLogger(__name__)


def with_deadlock_retry(transaction: Callable[[], R], *, attempts: int = 3) -> R:
    """Call `transaction`, which opens and ends its own transaction, again after a deadlock or a lock wait.

    At most `attempts` calls (1 or more), 5 to 40 ms apart at first and twice that each time; then the last error is
    raised. Must be outermost: inside an atomic block the server has rolled back more than a retry would redo.
    """
    pause_s = 0.005
    for attempt in range(1, attempts + 1):
        try:
            return transaction()
        except OperationalError as error:
            if attempt == attempts or not (is_deadlock(error) or is_lock_wait_timeout(error)):
                raise
            _log.info("transaction tried again", extra={"attempt": attempt, "error": str(error)})
        # Spread, so that those that met do not meet again.
        time.sleep(pause_s * random.uniform(1, 8))
        pause_s *= 2
    raise AssertionError("attempts must be at least 1")
