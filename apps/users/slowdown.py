"""Slows down guessing: failed logins are counted for each login and address together.

After a few free failures the next try has to wait 1, 2, 4, ... seconds up to a cap, so a guesser is held up and the
owner, who comes from another address, is not. Counts are in redis-cache, over all processes; without Redis each process
counts for itself. While tries are free, a bounded number may run at once in a process, so that a burst of guesses does
not all pass; after that each wait admits one.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

import redis
from cachetools import TTLCache
from django.conf import settings

from apps.users.domain import wait_after_failures_s
from apps.users.errors import CredentialsInvalid, TooManyFailures

_REFUSAL: Final = "Too many failed logins. Wait before the next."
_TIMEOUT_S: Final = 0.1
_REDIS_PAUSE_S: Final = 2.0
_LOCAL_MAX_COUNT: Final = 20_000
# KEYS: the counter. ARGV: now (ms), free failures, cap (s), 1 for a failure and 0 for a try.
# A try returns the ms to wait, 0 when it may go on; one that had to wait for its turn takes the turn.
_COUNT: Final = """
local now, free, cap, failed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local next_at = tonumber(redis.call('HGET', KEYS[1], 'next_at') or '0')
if failed == 0 and next_at > now then return next_at - now end
local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0')
if failed == 1 then count = redis.call('HINCRBY', KEYS[1], 'count', 1) else count = count + 1 end
if count > free or (failed == 1 and count == free) then
  redis.call('HSET', KEYS[1], 'next_at', now + 1000 * math.min(2 ^ math.min(count - free, 30), cap))
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 0
"""


@dataclass(slots=True)
class _Count:
    count: int = 0
    next_at_ms: int = 0


class LoginSlowdown:
    """Counts failures by key (a login's digest and an address)."""

    def __init__(self) -> None:
        self._counts: TTLCache[str, _Count] = TTLCache(_LOCAL_MAX_COUNT, ttl=settings.LOGIN_FAILURES_FORGOTTEN_S)
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._redis_again_at = 0.0

    @contextmanager
    def attempt(self, key: str, *, now: datetime) -> Iterator[None]:
        """Guard one try; raises TooManyFailures, with the seconds to wait, when it comes too soon.

        The block raises CredentialsInvalid for a failure; its normal end is a success, which forgets all failures.
        Any other error counts as neither.
        """
        now_ms = int(now.timestamp() * 1000)
        with self._lock:
            if self._running[key] >= settings.LOGIN_MAX_AT_ONCE:
                raise TooManyFailures(_REFUSAL, retry_after_s=1)
            self._running[key] += 1
        try:
            wait_ms = self._count(key, now_ms, failed=False)
            if wait_ms:
                raise TooManyFailures(_REFUSAL, retry_after_s=-(-wait_ms // 1000))
            try:
                yield
            except CredentialsInvalid:
                self._count(key, now_ms, failed=True)
                raise
            self._forget(key)
        finally:
            with self._lock:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]

    def _count(self, key: str, now_ms: int, *, failed: bool) -> int:
        if time.monotonic() >= self._redis_again_at:
            try:
                return self._count_in_redis(key, now_ms, failed=failed)
            except redis.RedisError:
                self._pause_redis()
        return self._count_here(key, now_ms, failed=failed)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._counts.pop(key, None)
        if time.monotonic() >= self._redis_again_at:
            try:
                _redis(settings.REDIS_CACHE_URL).delete(_name(key))
            except redis.RedisError:
                self._pause_redis()

    def _pause_redis(self) -> None:
        """Ask Redis no more for a moment, so that its absence costs one time limit and not one for each login."""
        self._redis_again_at = time.monotonic() + _REDIS_PAUSE_S

    @staticmethod
    def _count_in_redis(key: str, now_ms: int, *, failed: bool) -> int:
        return int(
            _redis(settings.REDIS_CACHE_URL).eval(
                _COUNT,
                1,
                _name(key),
                now_ms,
                settings.LOGIN_FREE_FAILURES,
                settings.LOGIN_MAX_WAIT_S,
                int(failed),
                settings.LOGIN_FAILURES_FORGOTTEN_S,
            )
        )

    def _count_here(self, key: str, now_ms: int, *, failed: bool) -> int:
        """Do what the script does in Redis."""
        free, cap_s = settings.LOGIN_FREE_FAILURES, settings.LOGIN_MAX_WAIT_S
        with self._lock:
            entry = self._counts.get(key, _Count())
            if not failed and entry.next_at_ms > now_ms:
                return entry.next_at_ms - now_ms
            count = entry.count + 1
            if failed:
                entry.count = count
            if count > free or failed:
                entry.next_at_ms = now_ms + 1000 * wait_after_failures_s(count, free=free, cap_s=cap_s)
            self._counts[key] = entry
            return 0


def _name(key: str) -> str:
    return f"floodgate:login-failures:{key}"


@lru_cache(maxsize=1)
def _redis(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


@lru_cache(maxsize=1)
def login_slowdown() -> LoginSlowdown:
    """Return the counts of this process."""
    return LoginSlowdown()
