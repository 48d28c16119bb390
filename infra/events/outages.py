"""Telling an outage, which is waited out, from a mistake, which no waiting mends."""

import logging
import time
from typing import Final

from django.db import DatabaseError, InterfaceError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from infra.errors import Code, DomainError
from infra.events.bus import BusUnavailable
from infra.events.inbox import InboxRace
from infra.mysql.errors import (
    INTERRUPTED,
    PoolExhausted,
    error_number,
    is_connection_lost,
    is_deadlock,
    is_lock_wait_timeout,
)

_OUTAGE_CODES: Final = frozenset(
    {Code.SHARD_UNAVAILABLE, Code.OVERLOADED, Code.OUTCOME_UNKNOWN, Code.UPSTREAM_UNAVAILABLE}
)
# The server is there and takes nothing now: too many connections, out of resources, read-only.
_REFUSED: Final = frozenset({1040, 1203, 1226, 1290, 1792, 1836})
_REMIND_S: Final = 30.0


def is_outage(error: BaseException) -> bool:
    """Tell whether the same call can succeed later without anything being mended by hand."""
    if isinstance(error, DomainError):
        return error.code in _OUTAGE_CODES
    if isinstance(error, InterfaceError | PoolExhausted | BusUnavailable | InboxRace):
        return True
    if isinstance(error, DatabaseError):
        return (
            is_connection_lost(error)
            or is_deadlock(error)
            or is_lock_wait_timeout(error)
            or error_number(error) in INTERRUPTED | _REFUSED
        )
    return isinstance(error, RedisConnectionError | RedisTimeoutError | ConnectionError | TimeoutError)


class Outage:
    """One thing that is away: how long to wait before the next try, and a log line now and then, not at each try."""

    def __init__(self, logger: logging.Logger, what: str, *, first_s: float = 0.2, longest_s: float = 3.0) -> None:
        self._logger = logger
        self._what = what
        self._first_s = first_s
        self._longest_s = longest_s
        self._failure_count = 0
        self._began_at = 0.0
        self._told_at = 0.0

    def failed(self, error: BaseException) -> float:
        """Note a failure and return the seconds to wait: doubled each time, up to the longest."""
        now = time.monotonic()
        if self._failure_count == 0:
            self._began_at = now
        if self._failure_count == 0 or now - self._told_at >= _REMIND_S:
            self._told_at = now
            self._logger.error("%s: %s; trying again", self._what, error)
        self._failure_count += 1
        return min(self._first_s * 2 ** min(self._failure_count - 1, 16), self._longest_s)

    def over(self) -> None:
        """Note a success."""
        if self._failure_count:
            self._logger.warning("%s: over after %.1f s", self._what, time.monotonic() - self._began_at)
        self._failure_count = 0
