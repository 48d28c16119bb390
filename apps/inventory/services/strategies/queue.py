"""The queue of claims in redis-cache, one for each database of stock: entries in order of arrival, and their replies.

An entry waits, then it is begun by the holder of the lease, then it has a reply; or it is withdrawn while it waits.
Each of these steps is one script, so whoever withdraws knows whether anything can still be done for it. What is begun
stays until it has its reply: the next holder begins with what a dead one has left.

Nothing here is a promise. Who reads an entry twice, or believes in a lease that is over, claims the same order again,
which is held once; a queue that is emptied costs those who waited in it a moment.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from apps.inventory.types import Claim, Shortage
from infra.resilience.breaker import Breaker, CircuitOpen

# KEYS: waiting, entries, bell. ARGV: the ticket, its entry. All keys go by themselves when nobody uses them.
_PUT: Final = """
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if redis.call('RPUSH', KEYS[1], ARGV[1]) == 1 then
  redis.call('DEL', KEYS[3])
  redis.call('RPUSH', KEYS[3], 1)
  redis.call('EXPIRE', KEYS[3], 60)
end
redis.call('EXPIRE', KEYS[1], 60)
redis.call('EXPIRE', KEYS[2], 60)
"""
# KEYS: waiting, entries, begun. ARGV: the ticket. Returns what has become of it.
_WITHDRAW: Final = """
if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then
  redis.call('LREM', KEYS[1], 1, ARGV[1])
  return 'withdrawn'
end
return redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 and 'begun' or 'unknown'
"""
# KEYS: waiting, entries, begun, lease. ARGV: the holder, the lease in milliseconds, how many at most.
# Returns false while another holds the lease, else the tickets and entries begun, one after the other.
_BEGIN: Final = """
local owner = redis.call('GET', KEYS[4])
if owner and owner ~= ARGV[1] then return false end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
local batch = {}
if not owner then batch = redis.call('HGETALL', KEYS[3]) end
while #batch < 2 * tonumber(ARGV[3]) do
  local ticket = redis.call('LPOP', KEYS[1])
  if not ticket then break end
  local entry = redis.call('HGET', KEYS[2], ticket)
  if entry then
    redis.call('HDEL', KEYS[2], ticket)
    redis.call('HSET', KEYS[3], ticket, entry)
    redis.call('EXPIRE', KEYS[3], 60)
    batch[#batch + 1] = ticket
    batch[#batch + 1] = entry
  end
end
return batch
"""
# KEYS: begun, then the list for each ticket's reply. ARGV: milliseconds that a reply is kept, then ticket and reply.
_REPLY: Final = """
for i = 2, #KEYS do
  local ticket, reply = ARGV[2 * i - 2], ARGV[2 * i - 1]
  if redis.call('HDEL', KEYS[1], ticket) == 1 then
    redis.call('RPUSH', KEYS[i], reply)
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
  end
end
"""
# KEYS: lease. ARGV: the holder.
_LEAVE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

_FAILURES_IN_A_ROW: Final = 3
_RETRY_AFTER_S: Final = 2.0
_REPLY_KEPT_MS: Final = 10_000
# A blocking read is begun anew this often, so that a Redis which hangs is noticed.
_BLOCK_S: Final = 0.4


class QueueAway(Exception):
    """Redis gave no answer; `was_asked` tells whether it may have done what it was asked."""

    def __init__(self, reason: object, *, was_asked: bool) -> None:
        super().__init__(str(reason))
        self.was_asked = was_asked


class Withdrawal(StrEnum):
    """What became of an entry that was to be withdrawn: it never will be begun, it was, or nobody knows."""

    WITHDRAWN = "withdrawn"
    BEGUN = "begun"
    UNKNOWN = "unknown"


class QueuedClaim(msgspec.Struct, array_like=True, frozen=True):
    """An entry: the claim, and when nobody waits for it any more (milliseconds since 1970)."""

    claim: Claim
    until_ms: int


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """What the consumer has to say: the shortages, () meaning held; None where it has no verdict and never will."""

    shortages: tuple[Shortage, ...] | None


class ClaimQueue:
    """The queue of one database of stock, as requests and consumers see it. Every call may raise QueueAway."""

    def __init__(self, alias: str) -> None:
        self._prefix = f"floodgate:stock-queue:{alias}"
        self._waiting, self._entries, self._begun, self._bell, self._lease = (
            f"{self._prefix}:{name}" for name in ("waiting", "entries", "begun", "bell", "lease")
        )
        self._redis = _redis_at(settings.REDIS_CACHE_URL)

    def put(self, ticket: str, entry: QueuedClaim) -> None:
        """Let a claim wait behind those that came before, whatever process they came to."""
        self._run(_PUT, [self._waiting, self._entries, self._bell], [ticket, msgspec.msgpack.encode(entry)])

    def reply(self, ticket: str, *, within_s: float) -> Reply | None:
        """Wait for the reply to a claim; None if none has come."""
        data = self._wait_for(self._reply_key(ticket), within_s)
        return None if data is None else msgspec.msgpack.decode(data, type=Reply)

    def withdraw(self, ticket: str) -> Withdrawal:
        """Take a claim back out of the queue, if it is not begun."""
        return Withdrawal(self._run(_WITHDRAW, [self._waiting, self._entries, self._begun], [ticket]).decode())

    def begin(self, holder: str, *, limit: int) -> dict[str, QueuedClaim | None] | None:
        """Take or lengthen the lease and begin the oldest entries, first what another holder has left behind.

        Returns them by ticket, None for one that this code cannot read; None while another holds the lease.
        """
        found = self._run(
            _BEGIN,
            [self._waiting, self._entries, self._begun, self._lease],
            [holder, int(settings.STOCK_QUEUE_LEASE_S * 1000), limit],
        )
        if found is None:
            return None
        return {ticket.decode(): _decode(data) for ticket, data in zip(found[::2], found[1::2], strict=True)}

    def tell(self, replies: Mapping[str, Reply]) -> None:
        """Give each ticket its reply, which ends its entry; one that has its reply already is passed over."""
        words = [word for ticket, reply in replies.items() for word in (ticket, msgspec.msgpack.encode(reply))]
        self._run(_REPLY, [self._begun, *map(self._reply_key, replies)], [_REPLY_KEPT_MS, *words])

    def wait_for_entries(self, *, within_s: float) -> None:
        """Return once something has come into the empty queue, or after the time."""
        self._wait_for(self._bell, within_s)

    def leave(self, holder: str) -> None:
        """Give the lease up, if it is this holder's."""
        self._run(_LEAVE, [self._lease], [holder])

    def _reply_key(self, ticket: str) -> str:
        return f"{self._prefix}:reply:{ticket}"

    def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._redis.call(lambda client: _script(script)(keys=keys, args=args, client=client))

    def _wait_for(self, key: str, within_s: float) -> bytes | None:
        """Take the oldest value of a list, waiting for it in short reads."""
        while within_s > 0:
            block_s = min(within_s, _BLOCK_S)
            found = self._redis.call(lambda client, block_s=block_s: client.blpop([key], timeout=block_s))
            if found is not None:
                return bytes(found[1])
            within_s -= block_s
        return None


class _Redis:
    """A client behind a breaker. Nothing is retried: a call that failed may still be done by the server."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=settings.STOCK_QUEUE_TIMEOUT_S,
            socket_connect_timeout=settings.STOCK_QUEUE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._breaker = Breaker("stock-queue", failure_threshold=_FAILURES_IN_A_ROW, reset_after_s=_RETRY_AFTER_S)

    def call(self, function: Any) -> Any:
        try:
            return self._breaker.call(function, self._client)
        except CircuitOpen as error:
            raise QueueAway(error, was_asked=False) from error
        except (RedisError, OSError) as error:
            raise QueueAway(error, was_asked=True) from error


@lru_cache(maxsize=4)
def _redis_at(url: str) -> _Redis:
    return _Redis(url)


@lru_cache(maxsize=16)
def _script(text: str) -> Any:
    return redis.Redis().register_script(text)


def _decode(data: bytes) -> QueuedClaim | None:
    try:
        return msgspec.msgpack.decode(data, type=QueuedClaim)
    except msgspec.DecodeError:
        return None
