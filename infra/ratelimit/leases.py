"""Token buckets in Redis, from which each process leases lots, so that few requests cost a call.

A bucket holds up to `burst` requests and gains `per_second` a second. All processes draw from the same one, so what
they let through adds up to the limit. Without Redis each process fills buckets of its own.

A key that is new in a process starts with a twentieth of its burst for nothing, so that the many who come once or twice
cost no call at all; limits are that much looser for each process (with two of them, 10 % of the burst, once).
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Generic, TypeVar

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.ratelimit.metrics import LEASES
from infra.resilience.breaker import Breaker, CircuitOpen

K = TypeVar("K", int, str)

_SCRIPT: Final = (Path(__file__).parent / "lease.lua").read_text()
_TIMEOUT_S: Final = 0.1
_RETRY_AFTER_S: Final = 2.0
_FAILURES_IN_A_ROW: Final = 3
# A key that has been refused is not asked for again sooner, so that a flood of refusals is not one of calls.
_SHORTEST_REFUSAL_S: Final = 0.05
_KEYS_PER_GENERATION: Final = 20_000


@dataclass(frozen=True, slots=True)
class Limit:
    """`per_second` requests a second, `burst` at once."""

    per_second: int
    burst: int

    @property
    def free_lot(self) -> int:
        """What a process lets through of a new key before it asks."""
        return self.burst // 20

    @property
    def largest_lot(self) -> int:
        """What a process leases at once at most: what it does not use is missed elsewhere."""
        return max(1, self.burst // 8)


@dataclass(frozen=True, slots=True)
class Grant:
    """`count` requests may pass; when it is none, the next may in `wait_s` seconds."""

    count: int
    wait_s: float


class LeaseStore:
    """The buckets in Redis. Never waits longer than a tenth of a second, and asks a Redis that is away rarely."""

    def __init__(self, url: str) -> None:
        client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._lease = client.register_script(_SCRIPT)
        self._breaker = Breaker("limits", failure_threshold=_FAILURES_IN_A_ROW, reset_after_s=_RETRY_AFTER_S)

    def lease(self, name: str, limit: Limit, *, wanted: int) -> Grant | None:
        """Take up to `wanted` requests from a bucket; None when Redis does not answer."""
        try:
            with self._breaker:
                count, wait_ms = self._lease(
                    keys=[f"floodgate:limit:{name}"], args=[limit.per_second, limit.burst, wanted]
                )
        except (redis.RedisError, OSError, CircuitOpen):
            LEASES.labels("away").inc()
            return None
        LEASES.labels("granted" if count else "refused").inc()
        return Grant(int(count), int(wait_ms) / 1000)


@lru_cache(maxsize=4)
def store_at(url: str) -> LeaseStore:
    """Return this process's store."""
    return LeaseStore(url)


@dataclass(slots=True)
class _Entry:
    """What a process knows of one key: requests that may pass without asking, and the bucket for want of Redis."""

    credit: float
    lot: int
    refused_until: float = 0.0
    tokens: float = 0.0
    filled_at: float = -math.inf
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lease_here(self, limit: Limit, *, wanted: int, now: float) -> Grant:
        """Do what the script does in Redis."""
        tokens = min(float(limit.burst), self.tokens + (now - self.filled_at) * limit.per_second)
        count = min(wanted, math.floor(tokens))
        self.tokens, self.filled_at = tokens - count, now
        return Grant(count, 0.0 if count else (1 - tokens) / limit.per_second)


class LeasedBuckets(Generic[K]):
    """The limits of one kind of key in this process.

    `limit_of` says what holds for a key, None for no limit; after its answers have changed, call `forget`. The usual
    request costs a look into a dict. Safe between greenlets; between threads a request may go uncounted now and then.
    """

    def __init__(
        self,
        kind: str,
        limit_of: Callable[[K], Limit | None],
        *,
        store: Callable[[], LeaseStore] = lambda: store_at(settings.REDIS_CACHE_URL),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._limit_of: Callable[[K], Limit | None] = limit_of
        self._store = store
        self._clock = clock
        # Two generations: what was not asked for during one is forgotten at the end of the next.
        self._young: dict[K, _Entry] = {}
        self._old: dict[K, _Entry] = {}

    def take(self, key: K) -> float:
        """Let one request pass, or return how many seconds it has to wait (0: it passes).

        One caller asks Redis for a key's next lot, for a tenth of a second at the most; others of the key wait for it.
        """
        entry = self._young.get(key)
        if entry is None:
            entry = self._recall(key)
        if entry.credit >= 1:
            entry.credit -= 1
            return 0.0
        if self._clock() < entry.refused_until:
            return max(entry.refused_until - self._clock(), 0.001)
        return self._lease(key, entry)

    def forget(self) -> None:
        """Begin anew with every key."""
        self._young, self._old = {}, {}

    def _recall(self, key: K) -> _Entry:
        entry = self._old.pop(key, None)
        if entry is None:
            limit = self._limit_of(key)
            entry = _Entry(credit=math.inf, lot=0) if limit is None else _Entry(limit.free_lot, limit.free_lot)
        if len(self._young) >= _KEYS_PER_GENERATION:
            self._old, self._young = self._young, {}
        return self._young.setdefault(key, entry)

    def _lease(self, key: K, entry: _Entry) -> float:
        with entry.lock:
            now = self._clock()
            if entry.credit >= 1:
                entry.credit -= 1
                return 0.0
            if now < entry.refused_until:
                return entry.refused_until - now
            limit = self._limit_of(key)
            if limit is None:
                entry.credit = math.inf
                return 0.0
            wanted = min(max(1, entry.lot * 2), limit.largest_lot)
            grant = self._store().lease(f"{self._kind}:{key}", limit, wanted=wanted)
            if grant is None:
                grant = entry.lease_here(limit, wanted=wanted, now=self._clock())
            entry.lot = grant.count
            if grant.count:
                entry.credit += grant.count - 1
                return 0.0
            wait_s = max(grant.wait_s, _SHORTEST_REFUSAL_S)
            entry.refused_until = self._clock() + wait_s
            return wait_s
