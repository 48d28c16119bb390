"""The raw connection: mysqlclient's own outside gevent, and one that waits on gevent's hub inside it."""

import contextlib
import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent
import MySQLdb
from django.core.exceptions import ImproperlyConfigured
from gevent import monkey
from greenlet import getcurrent
from MySQLdb import _mysql
from MySQLdb.connections import Connection

from infra.mysql.answers import PEEK_BYTES, is_complete, is_in_transaction
from infra.mysql.errors import (
    INTERRUPTED,
    LOST,
    BreakerOpen,
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    QueryTimeout,
    error_number,
)
from infra.mysql.options import PoolOptions, session_statement
from infra.mysql.threads import call_in_thread
from infra.resilience.breaker import Breaker

if TYPE_CHECKING:
    from infra.mysql.pool import Pool

# The system's own socket calls, whether or not gevent has replaced them.
_socket = monkey.get_original("socket", ["socket", "MSG_PEEK", "MSG_DONTWAIT", "SHUT_RDWR"])
_Socket, _MSG_PEEK, _MSG_DONTWAIT, _SHUT_RDWR = _socket
_dup = monkey.get_original("os", "dup")
_PEEK_FLAGS: Final = _MSG_PEEK | _MSG_DONTWAIT

# A longer statement may not fit into the socket's buffer, so that sending it could block.
_SEND_INLINE_BYTES: Final = 64 * 1024
# A connection used so lately is not looked at again before its next use.
_TRUSTED_S: Final = 1.0
_GONE: Final = 2006


# Connections of the parent process are kept for good: freeing one says farewell on the parent's socket.
_inherited: list[object] = []
_process_number = 0


def _count_process() -> None:
    global _process_number  # noqa: PLW0603 - one number a process, changed by fork alone
    _process_number += 1


os.register_at_fork(after_in_child=_count_process)


class _DeadlinePassed(BaseException):
    """Thrown into the greenlet that waits for an answer; never leaves this module."""


class RawConnection(Connection):
    """A connection with its session set up, whose every round trip goes through `query`.

    Raises MySQLdb's errors, and from `commit` CommitOutcomeUnknown. After an error that leaves the connection in an
    unknown state `broken` is true and it must only be closed.
    """

    breaker: Breaker
    broken = False
    last_used_at = 0.0

    def __init__(self, *, options: PoolOptions, breaker: Breaker, **params: Any) -> None:
        super().__init__(**params)
        # mysqlclient's encoder for bytes is a leftover that fails (Django's own backend removes it too).
        if self.encoders.get(bytes) is bytes:
            self.encoders.pop(bytes)
        self.options = options
        self.breaker = breaker
        _mysql.connection.query(self, session_statement(self.get_server_info(), options).encode())
        self._process_number = _process_number
        self.opened_at = self.last_used_at = time.monotonic()
        self._socket: Any = _Socket(fileno=_dup(self.fileno()))

    def commit(self) -> None:
        """Commit; raises CommitOutcomeUnknown when no answer came, MySQLdb's errors when nothing was committed."""
        if self._has_input():
            # COMMIT cannot have reached the server.
            self.abandon()
            raise MySQLdb.OperationalError(_GONE, "Server has gone away before COMMIT; nothing was committed")
        try:
            self.query(b"COMMIT")
        except QueryTimeout as error:
            raise CommitOutcomeUnknown(*error.args) from error
        except MySQLdb.OperationalError as error:
            number = error_number(error)
            # 2006 is told when the statement could not be sent; all others come while its answer is awaited.
            if number in INTERRUPTED or (number in LOST and number != _GONE):
                raise CommitOutcomeUnknown(*error.args) from error
            raise

    def rollback(self) -> None:
        """Roll the transaction back."""
        self.query(b"ROLLBACK")

    def autocommit(self, on: bool) -> None:
        """Switch autocommit; switching it on ends an open transaction by a commit, as the server does."""
        on = bool(on)
        if self.get_autocommit() != on:
            self.query(b"SET autocommit=1" if on else b"SET autocommit=0")

    def is_lost_while_idle(self) -> bool:
        """Whether the server has hung up on (or sent its farewell to) a connection that waits for nothing."""
        if self.broken or self.is_inherited:
            return True
        if time.monotonic() - self.last_used_at < _TRUSTED_S:
            return False
        return self._has_input()

    def abandon(self) -> None:
        """Cut the connection without a word to the server; nothing waits, whatever state the server is in.

        A thread that still reads from it gets an error at once, and closing it afterwards cannot block.
        """
        if not self.broken:
            self.broken = True
            with contextlib.suppress(OSError):  # the other side was quicker
                self._socket.shutdown(_SHUT_RDWR)
            self._socket.close()

    def close(self) -> None:
        """Close the connection, with a farewell to the server if it is not broken."""
        if self.is_inherited:
            _inherited.append(self)
            return
        if not self.broken:
            self.broken = True
            self._socket.close()
        _mysql.connection.close(self)

    @property
    def is_inherited(self) -> bool:
        """Whether the connection is the parent process's: nothing may be sent on it here."""
        return self._process_number != _process_number

    def _has_input(self) -> bool:
        """Whether bytes or the stream's end lie there to be read; unasked for, both mean that the server hung up."""
        if self.broken:
            return True
        try:
            self._socket.recv(1, _PEEK_FLAGS)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _note_error(self, error: MySQLdb.Error) -> None:
        """Tell the breaker what an error says of the server; errors of a living server are successes."""
        if error_number(error) in LOST:
            self.abandon()
            self.breaker.record_failure()
        else:
            self.breaker.record_success()


class BlockingConnection(RawConnection):
    """Blocks its thread, for at most the read timeout a round trip; for Celery, commands, relays."""

    def query(self, query: bytes | bytearray | str) -> None:
        """Send a statement and wait for the head of its answer."""
        try:
            super().query(query)
        except MySQLdb.Error as error:
            self._note_error(error)
            raise
        self.last_used_at = time.monotonic()
        if self.breaker.failure_count:
            self.breaker.record_success()


class CooperativeConnection(RawConnection):
    """Lets other greenlets run while a statement is under way, for at most `query_timeout_s`.

    One greenlet at a time; a second one is refused. If the waiting greenlet is killed or thrown out of its wait, the
    connection is cut, since the answer that still comes would be taken for the next statement's. Made in a thread of
    `pool`, then attached to the hub in the greenlet that uses it first.
    """

    def __init__(self, *, pool: "Pool", **params: Any) -> None:
        super().__init__(**params)
        self.pool = pool
        self.lessee: Any = None
        self._answer: bytes | None = None
        self._result: Any = None
        self._result_is_here = False
        self._in_use = False
        self._watcher: Any = None
        self._timer: Any = None

    def attach(self) -> None:
        """Bind the connection to this thread's hub."""
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._socket.fileno(), 1)
        # A repeating timer: a libev timer that is stopped keeps what was left, and only `again` gives it its full time.
        self._timer = self._hub.loop.timer(self.options.query_timeout_s, repeat=self.options.query_timeout_s)

    def query(self, query: bytes | bytearray | str) -> None:
        """Send one statement and wait on the hub for its answer; raises QueryTimeout, BreakerOpen, MySQLdb's errors."""
        if self._in_use:
            raise MySQLdb.InterfaceError(0, "connection is in use by another greenlet")
        breaker = self.breaker
        if not breaker.is_closed:
            raise BreakerOpen(f"{breaker.name} did not answer a moment ago")
        if isinstance(query, bytearray):
            query = bytes(query)
        self._in_use = True
        self._result_is_here = False
        self._answer = None
        try:
            self._exchange(query)
        except BaseException as error:
            self._judge(error)
            raise
        finally:
            self._in_use = False
        self.last_used_at = time.monotonic()
        if breaker.failure_count:
            breaker.record_success()

    def store_result(self) -> Any:
        """Return the result; all of it is in this process already."""
        if self._result_is_here:
            self._result_is_here = False
            result, self._result = self._result, None
            return result
        return _mysql.connection.store_result(self)

    def use_result(self) -> Any:
        """Refused: rows fetched one by one would block the hub one by one."""
        raise MySQLdb.NotSupportedError("server-side cursors block the gevent hub")

    def next_result(self) -> Any:
        """Go to the next result of a CALL; -1 when there is none."""
        if not self.more_results():
            return -1
        try:
            return self._call_in_thread(lambda: _mysql.connection.next_result(self))
        except BaseException as error:
            self._judge(error)
            raise

    def is_clean(self) -> bool | None:
        """Whether the next user finds it as new: alive, autocommit on, no transaction; None where that is not known."""
        if self.broken or self._in_use or not self.get_autocommit():
            return False
        in_transaction = is_in_transaction(self._answer)
        return None if in_transaction is None else not in_transaction

    def reset(self) -> bool:
        """Roll back what may be open; one round trip. Whether the connection is clean then."""
        try:
            self.rollback()
        except (MySQLdb.Error, DatabaseUnavailable):
            return False
        return self.is_clean() is not False

    def give_back(self) -> None:
        """Give the connection back to its pool."""
        self.pool.release(self)

    def lessee_ended(self, _greenlet: object) -> None:
        """Give the connection back for a greenlet that ended without doing so."""
        self.pool.release_of_ended(self)

    def detach(self) -> None:
        """Unbind the connection from the hub; after this it can only be closed."""
        for watcher in (self._watcher, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watcher = self._timer = None

    def abandon(self) -> None:
        """Cut the connection without a word to the server; nothing waits."""
        self.detach()
        super().abandon()

    def cut(self) -> None:
        """Abandon the connection and free it."""
        self.abandon()
        # While a thread still reads from it, it is freed when that thread lets go of it.
        with contextlib.suppress(MySQLdb.Error):
            self.close()

    def _exchange(self, query: bytes | str) -> None:
        if len(query) <= _SEND_INLINE_BYTES:
            self.send_query(query)
        else:
            self._call_in_thread(lambda: self.send_query(query))
        timer = self._timer
        timer.again(getcurrent().throw, _DeadlinePassed, update=True)
        try:
            self._hub.wait(self._watcher)
        except _DeadlinePassed:
            # A process that was itself stopped for a while finds deadline and answer at once.
            if not self._has_input():
                raise
        finally:
            timer.stop()
        self._answer = answer = self._peek()
        if is_complete(answer):
            self.read_query_result()
        else:
            self._answer = None
            self._result = self._call_in_thread(self._read_all)
            self._result_is_here = True

    def _peek(self) -> bytes:
        """Return the beginning of an answer, still to be read; nothing when the server is gone."""
        try:
            return bytes(self._socket.recv(PEEK_BYTES, _PEEK_FLAGS))
        except (ConnectionError, TimeoutError):
            # The kernel of a server that was killed resets the connection if it had not read the statement. What is
            # told once here reads as the stream's end from now on, which the client library has an error for.
            return b""

    def _judge(self, error: BaseException) -> None:
        """Cut the connection unless the server itself reported the error; raises QueryTimeout for a passed deadline."""
        if isinstance(error, MySQLdb.Error):
            self._note_error(error)
            return
        self.abandon()
        if isinstance(error, _DeadlinePassed):
            self.breaker.record_failure()
            message = f"{self.breaker.name}: no answer within {self.options.query_timeout_s} s"
            raise QueryTimeout(message) from None

    def _read_all(self) -> Any:
        self.read_query_result()
        return _mysql.connection.store_result(self)

    def _call_in_thread(self, function: Callable[[], Any]) -> Any:
        """Call what may block in the pool's threads; past the deadline the connection is cut, which ends the call."""
        return call_in_thread(
            self.pool.threads,
            function,
            timeout_s=self.options.query_timeout_s,
            timeout_error=_DeadlinePassed,
        )


def connection_params(params: dict[str, Any], options: PoolOptions, *, query_timeout_s: float) -> dict[str, Any]:
    """Return what mysqlclient is given: Django's parameters, a limit for every call, one statement at a time.

    Raises ImproperlyConfigured for options that would break what the backend promises.
    """
    refused = params.keys() & {
        "init_command",
        "sql_mode",
        "autocommit",
        "multi_statements",
        "cursorclass",
        "local_infile",
    }
    if refused:
        raise ImproperlyConfigured(f"infra.mysql sets these itself: {', '.join(sorted(refused))}")
    return {
        **params,
        "autocommit": None,
        "multi_statements": False,
        "local_infile": 0,
        "connect_timeout": math.ceil(options.connect_timeout_s),
        "read_timeout": math.ceil(query_timeout_s),
        "write_timeout": math.ceil(query_timeout_s),
    }
