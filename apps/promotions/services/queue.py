"""The queues of a sale in redis-durable: a stream for each shard, read in order of arrival by one drain at a time.

An entry is durable when `enqueue` returns (appendonly, fsync always) and stays until its ticket has ended. What makes a
ticket end once is its row on the shard, never anything here: a queue that is read twice, or emptied, does no harm.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from apps.promotions.errors import QueueUnavailable
from apps.promotions.types import QueuedRequest, QueuePlace, Ticket

# KEYS: the stream, the ticket's hash, the counters. ARGV: the entry, issued (ms), body digest, seconds to keep.
# Returns (1 if new, issued, body digest, the ticket's number, how many have ended).
_ENQUEUE: Final = """
local known = redis.call('HMGET', KEYS[2], 'issued', 'body', 'number')
local ended = redis.call('HGET', KEYS[3], 'ended') or '0'
if known[1] then return {0, known[1], known[2], known[3], ended} end
local number = redis.call('HINCRBY', KEYS[3], 'queued', 1)
redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('HSET', KEYS[2], 'issued', ARGV[2], 'body', ARGV[3], 'number', number)
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return {1, ARGV[2], ARGV[3], tostring(number), ended}
"""
# KEYS: the lease. ARGV: the holder, ms. Takes or lengthens the lease; 0 while another holds it.
_LEASE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

Entry = tuple[bytes, QueuedRequest | None]
"""The entry's id in the stream, and the request; None for an entry that cannot be read."""


class SaleQueue:
    """The queue of one sale's buyers on one shard. Every call raises QueueUnavailable when Redis gives no answer."""

    def __init__(self, sale_id: int, alias: str) -> None:
        self._prefix = f"{settings.FLASH_QUEUE_PREFIX}:flash:{sale_id}:{alias}"
        self._stream = f"{self._prefix}:stream"
        self._counters = f"{self._prefix}:counters"
        self._lease = f"{self._prefix}:lease"

    def enqueue(self, request: QueuedRequest, *, keep_s: int) -> QueuePlace:
        """Queue a request, once for its key; return where it, or the earlier request with the key, waits."""
        ticket = request.ticket
        is_new, issued, body, number, ended = self._run(
            _ENQUEUE,
            [self._stream, self._ticket(ticket), self._counters],
            [_encode(request), ticket.issued_ms, request.body_digest, keep_s],
        )
        first = Ticket(ticket.sale_id, ticket.user_id, ticket.digest, int(issued))
        return QueuePlace(first, bytes(body), max(int(number) - int(ended), 1), bool(is_new))

    def find(self, ticket: Ticket) -> QueuePlace | None:
        """Return where the request with this ticket's digest waits, or waited; None if it is not known here."""
        issued, body, number = self._call("hmget", self._ticket(ticket), ["issued", "body", "number"])
        if issued is None:
            return None
        ended = self._call("hget", self._counters, "ended") or 0
        first = Ticket(ticket.sale_id, ticket.user_id, ticket.digest, int(issued))
        return QueuePlace(first, bytes(body), max(int(number) - int(ended), 1), False)

    def read(self, limit: int) -> list[Entry]:
        """Return the oldest entries."""
        return [
            (entry_id, _decode(fields[b"e"])) for entry_id, fields in self._call("xrange", self._stream, count=limit)
        ]

    def drop(self, entry_ids: Sequence[bytes]) -> None:
        """Remove entries whose tickets have ended, and count them as such."""
        if entry_ids:
            dropped = self._call("xdel", self._stream, *entry_ids)
            self._call("hincrby", self._counters, "ended", dropped)

    def length(self) -> int:
        """Return how many entries wait."""
        return int(self._call("xlen", self._stream))

    def lease(self, holder: str) -> bool:
        """Take or lengthen the lease on draining; False while another holds it. It spares work, no more."""
        return bool(self._run(_LEASE, [self._lease], [holder, int(settings.FLASH_DRAIN_LEASE_S * 1000)]))

    def release(self, holder: str) -> None:
        """Give the lease up."""
        self._run(_RELEASE, [self._lease], [holder])

    def forget(self) -> None:
        """Delete the queue of a sale that is closed; what it knows of tickets goes by itself when its time is over."""
        self._call("delete", self._stream, self._counters, self._lease)

    def _ticket(self, ticket: Ticket) -> str:
        return f"{self._prefix}:ticket:{ticket.user_id}:{ticket.digest.hex()}"

    def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        try:
            return _script(script)(keys=keys, args=args, client=_client())
        except (RedisError, OSError) as error:
            raise QueueUnavailable(str(error)) from error

    def _call(self, command: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(_client(), command)(*args, **kwargs)
        except (RedisError, OSError) as error:
            raise QueueUnavailable(str(error)) from error


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """An entry as it is stored."""

    sale_id: int
    user_id: int
    digest: bytes
    issued_ms: int
    body_digest: bytes
    sku: str
    quantity: int
    address_id: int
    exempt: bool


def _encode(request: QueuedRequest) -> bytes:
    ticket = request.ticket
    return msgspec.msgpack.encode(
        _Body(
            sale_id=ticket.sale_id,
            user_id=ticket.user_id,
            digest=ticket.digest,
            issued_ms=ticket.issued_ms,
            body_digest=request.body_digest,
            sku=request.sku,
            quantity=request.quantity,
            address_id=request.address_id,
            exempt=request.exempt,
        )
    )


def _decode(data: bytes) -> QueuedRequest | None:
    try:
        body = msgspec.msgpack.decode(data, type=_Body)
    except msgspec.DecodeError:
        return None
    return QueuedRequest(
        ticket=Ticket(body.sale_id, body.user_id, body.digest, body.issued_ms),
        body_digest=body.body_digest,
        sku=body.sku,
        quantity=body.quantity,
        address_id=body.address_id,
        exempt=body.exempt,
    )


@cache
def _client() -> redis.Redis:
    # Never retried by the client: a call that failed may still be done by the server, and a repeat is the caller's.
    return redis.Redis.from_url(
        settings.REDIS_DURABLE_URL,
        socket_timeout=settings.FLASH_QUEUE_TIMEOUT_S,
        socket_connect_timeout=settings.FLASH_QUEUE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


@cache
def _script(text: str) -> Any:
    return _client().register_script(text)
