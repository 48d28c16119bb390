"""Locks of SKUs in Redis: they keep buyers of a hot SKU from meeting at its row, and guarantee nothing.

Whoever does not get a lock in time, or finds Redis away, goes on without it; whoever held one for too long has lost it.
What is sold stays right in each case, since the write is guarded.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, cast

from django.conf import settings
from django.core.cache import caches
from django_redis.cache import RedisCache
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from apps.inventory.services.strategies import metrics
from infra.mysql.requests import end_request
from infra.resilience.breaker import Breaker, CircuitOpen

_log = logging.getLogger(__name__)

_FAILURES_IN_A_ROW: Final = 3
_RETRY_AFTER_S: Final = 2.0
# A waiting order asks Redis this often; sixteen of them in a process see a lock come free within a millisecond or two.
_POLL_S: Final = 0.02
_breaker: Final = Breaker("stock-locks", failure_threshold=_FAILURES_IN_A_ROW, reset_after_s=_RETRY_AFTER_S)


@contextmanager
def sku_locks(skus: Iterable[str]) -> Iterator[None]:
    """Hold the locks of the SKUs, as far as they can be had, for the length of the block.

    Taken in ascending order; all together are waited for `STOCK_LOCK_WAIT_S` seconds at most, without a database
    connection. A lock carries its owner's token, so that nobody gives back what is another's by now.
    """
    give_up_at = time.monotonic() + settings.STOCK_LOCK_WAIT_S
    with ExitStack() as held:
        for sku in sorted(skus):
            lock = _acquire(sku, wait_s=max(0.0, give_up_at - time.monotonic()))
            if lock is not None:
                held.callback(_release, lock)
        yield


def _acquire(sku: str, *, wait_s: float) -> Lock | None:
    lock = cast(RedisCache, caches["default"]).lock(
        f"stock-lock:{sku}",
        timeout=settings.STOCK_LOCK_LIFETIME_S,
        sleep=_POLL_S,
        blocking_timeout=wait_s,
    )
    end_request()
    try:
        with _breaker:
            if lock.acquire():
                return lock
    except (RedisError, OSError, CircuitOpen):
        metrics.CONTENTION.labels("lock_away").inc()
        return None
    metrics.CONTENTION.labels("lock_late").inc()
    return None


def _release(lock: Lock) -> None:
    """Give a lock back; one that cannot be ends by itself."""
    try:
        lock.release()
    except LockError:
        metrics.CONTENTION.labels("lock_lost").inc()
    except (RedisError, OSError) as error:
        metrics.CONTENTION.labels("lock_away").inc()
        _log.info("a stock lock is left to its end: %s", error)
