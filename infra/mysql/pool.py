"""The bounded pool of an alias's connections in one gevent process."""

import os
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import gevent
import MySQLdb
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from infra.mysql.connection import CooperativeConnection
from infra.mysql.errors import LOST, UNREACHABLE, BreakerOpen, ConnectTimeout, PoolExhausted, error_number
from infra.mysql.options import PoolOptions
from infra.mysql.threads import call_in_thread
from infra.resilience.breaker import Breaker, CircuitOpen, State

# Threads that connect for one alias: those of an alias whose server is stopped must not hold up another's.
_THREADS: Final = 4


class _ConnectDeadline(Exception):
    """The time to connect is over."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool's figures, for metrics and tests."""

    alias: str
    size: int
    in_use_count: int
    idle_count: int
    waiting_count: int
    opened_count: int
    refused_count: int
    breaker: State


class Pool:
    """Lends connections to greenlets: at most `options.size` at once, each to one greenlet at a time.

    A connection that is given back clean is lent again; any other is closed. What a greenlet has borrowed comes back
    when it ends, however it ends. Belongs to the thread of one hub.
    """

    def __init__(self, alias: str, options: PoolOptions, breaker: Breaker) -> None:
        self.alias = alias
        self.options = options
        self.breaker = breaker
        self.threads = ThreadPool(_THREADS)
        self._slots = BoundedSemaphore(options.size)
        self._idle: deque[CooperativeConnection] = deque()
        self._waiting_count = 0
        self._opened_count = 0
        self._refused_count = 0

    def acquire(self, params: dict[str, Any]) -> CooperativeConnection:
        """Return a connection for this greenlet, made with `params` if no idle one is there.

        Raises PoolExhausted after `wait_s`, BreakerOpen at once, ConnectTimeout, MySQLdb's errors.
        """
        if self.breaker.state is State.OPEN:
            raise self._broken()
        self._take_slot()
        try:
            connection = self._lend(params)
        except BaseException:
            self._slots.release()
            raise
        greenlet = gevent.getcurrent()
        connection.lessee = greenlet
        if isinstance(greenlet, gevent.Greenlet):
            greenlet.rawlink(connection.lessee_ended)
        return connection

    def release(self, connection: CooperativeConnection) -> None:
        """Take a connection back, for the next one if it is clean; a second time does nothing.

        Asks the server, and so waits, only where the last answer does not tell whether a transaction is open.
        """
        if not self._end_lease(connection):
            return
        try:
            clean = connection.is_clean()
            if clean is None:
                clean = connection.reset()
            self._keep(connection, clean=clean)
        except BaseException:
            connection.cut()
            raise
        finally:
            self._slots.release()

    def release_of_ended(self, connection: CooperativeConnection) -> None:
        """Take back what a greenlet that has ended had borrowed; called by the hub, so it never waits."""
        if self._end_lease(connection):
            self._keep(connection, clean=connection.is_clean() is True)
            self._slots.release()

    def state(self) -> PoolState:
        """Return the figures of this moment."""
        return PoolState(
            alias=self.alias,
            size=self.options.size,
            in_use_count=self.options.size - self._slots.counter,
            idle_count=len(self._idle),
            waiting_count=self._waiting_count,
            opened_count=self._opened_count,
            refused_count=self._refused_count,
            breaker=self.breaker.state,
        )

    def _take_slot(self) -> None:
        if self._slots.acquire(blocking=False):
            return
        self._waiting_count += 1
        try:
            if self._slots.acquire(timeout=self.options.wait_s):
                return
        finally:
            self._waiting_count -= 1
        self._refused_count += 1
        raise PoolExhausted(f"{self.alias}: all {self.options.size} connections in use for {self.options.wait_s} s")

    def _lend(self, params: dict[str, Any]) -> CooperativeConnection:
        try:
            is_probe = self.breaker.admit()
        except CircuitOpen:
            raise self._broken() from None
        # A probe makes a new connection, which tells within `connect_timeout_s` whether the server lives.
        while self._idle and not is_probe:
            connection = self._idle.pop()
            if not connection.is_lost_while_idle():
                return connection
            connection.cut()
        return self._open(params)

    def _open(self, params: dict[str, Any]) -> CooperativeConnection:
        def connect() -> CooperativeConnection:
            return CooperativeConnection(pool=self, options=self.options, breaker=self.breaker, **params)

        try:
            connection = call_in_thread(
                self.threads,
                connect,
                timeout_s=self.options.connect_timeout_s,
                timeout_error=_ConnectDeadline,
                dispose=CooperativeConnection.cut,
            )
        except _ConnectDeadline:
            self.breaker.record_failure()
            raise ConnectTimeout(f"{self.alias}: no connection within {self.options.connect_timeout_s} s") from None
        except MySQLdb.Error as error:
            if error_number(error) in LOST | UNREACHABLE:
                self.breaker.record_failure()
            else:
                self.breaker.record_success()
            raise
        except BaseException:
            self.breaker.withdraw_probe()
            raise
        self.breaker.record_success()
        connection.attach()
        self._opened_count += 1
        return connection

    def _end_lease(self, connection: CooperativeConnection) -> bool:
        greenlet, connection.lessee = connection.lessee, None
        if isinstance(greenlet, gevent.Greenlet):
            greenlet.unlink(connection.lessee_ended)
        return greenlet is not None

    def _keep(self, connection: CooperativeConnection, *, clean: bool) -> None:
        now = time.monotonic()
        if clean and now - connection.opened_at < self.options.max_age_s:
            self._idle.append(connection)
        else:
            self._dispose(connection)
        while self._idle and now - self._idle[0].last_used_at > self.options.max_idle_s:
            self._dispose(self._idle.popleft())

    def _dispose(self, connection: CooperativeConnection) -> None:
        if connection.broken:
            connection.cut()
        else:
            connection.detach()
            gevent.spawn(self.threads.apply, connection.close)

    def _broken(self) -> BreakerOpen:
        self._refused_count += 1
        return BreakerOpen(f"{self.alias} did not answer a moment ago")


_pools: dict[Hashable, Pool] = {}
_breakers: dict[Hashable, Breaker] = {}
# Pools of the parent process; never used, and never freed either, since freeing says farewell on the parent's sockets.
_inherited: list[object] = []


def breaker_of(alias: str, server: Hashable, options: PoolOptions) -> Breaker:
    """Return this process's breaker for an alias on a server."""
    key = (alias, server)
    breaker = _breakers.get(key)
    if breaker is None:
        breaker = _breakers.setdefault(
            key,
            Breaker(alias, failure_threshold=options.breaker_failures, reset_after_s=options.breaker_reset_s),
        )
    return breaker


def pool_of(alias: str, server: Hashable, options: PoolOptions) -> Pool:
    """Return this process's pool for an alias on a server (anything that tells servers, users and databases apart)."""
    key = (alias, server)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools[key] = Pool(alias, options, breaker_of(alias, server, options))
    return pool


def pool_states() -> list[PoolState]:
    """Return the figures of all pools of this process."""
    return [pool.state() for pool in _pools.values()]


def _forget_parent() -> None:
    _inherited.append((dict(_pools), dict(_breakers)))
    _pools.clear()
    _breakers.clear()


os.register_at_fork(after_in_child=_forget_parent)
