"""Slows down guessing: failed logins are counted for each login and address together.

After a few free failures the next try has to wait 1, 2, 4, ... seconds up to a cap, so a guesser is held up and the
owner, who comes from another address, is not. Counts are in redis-cache, over all processes; without Redis each process
counts for itself. A try is counted before its password is checked, so that many at once do not all pass.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

import redis
from cachetools import TTLCache
from django.conf import settings

from apps.users.domain import wait_after_failures_s

_TIMEOUT_S: Final = 0.1
_REDIS_PAUSE_S: Final = 2.0
_LOCAL_MAX_COUNT: Final = 20_000
# KEYS: the counter. ARGV: now (ms), free tries, cap (s), lifetime (s). Returns how many ms are left to wait; 0 admits.
_ADMIT: Final = """
local now, free, cap = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local next_at = tonumber(redis.call('HGET', KEYS[1], 'next_at') or '0')
if next_at > now then return next_at - now end
local count = redis.call('HINCRBY', KEYS[1], 'count', 1)
if count >= free then
  redis.call('HSET', KEYS[1], 'next_at', now + 1000 * math.min(2 ^ math.min(count - free, 30), cap))
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 0
"""


@dataclass(slots=True)
class _Count:
    count: int = 0
    next_at_ms: int = 0


class LoginSlowdown:
    """Counts tries by key (a login's digest and an address)."""

    def __init__(self) -> None:
        self._counts: TTLCache[str, _Count] = TTLCache(_LOCAL_MAX_COUNT, ttl=settings.LOGIN_FAILURES_FORGOTTEN_S)
        self._lock = threading.Lock()
        self._redis_again_at = 0.0

    def admit(self, key: str, *, now: datetime) -> int:
        """Count one try. Returns 0, or the seconds to wait before the next, in which case the try does not count."""
        now_ms = int(now.timestamp() * 1000)
        if time.monotonic() >= self._redis_again_at:
            try:
                wait_ms = self._admit_in_redis(key, now_ms)
            except redis.RedisError:
                self._pause_redis()
            else:
                return -(-wait_ms // 1000)
        return -(-self._admit_here(key, now_ms) // 1000)

    def forget(self, key: str) -> None:
        """Take back all tries of a key: its login has succeeded."""
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
    def _admit_in_redis(key: str, now_ms: int) -> int:
        return int(
            _redis(settings.REDIS_CACHE_URL).eval(
                _ADMIT,
                1,
                _name(key),
                now_ms,
                settings.LOGIN_FREE_FAILURES,
                settings.LOGIN_MAX_WAIT_S,
                settings.LOGIN_FAILURES_FORGOTTEN_S,
            )
        )

    def _admit_here(self, key: str, now_ms: int) -> int:
        with self._lock:
            entry = self._counts.get(key, _Count())
            if entry.next_at_ms > now_ms:
                return entry.next_at_ms - now_ms
            entry.count += 1
            wait_s = wait_after_failures_s(
                entry.count, free=settings.LOGIN_FREE_FAILURES, cap_s=settings.LOGIN_MAX_WAIT_S
            )
            entry.next_at_ms = now_ms + 1000 * wait_s
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
