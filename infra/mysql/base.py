"""Django's entry to the backend: `ENGINE = "infra.mysql"`."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import gevent
import MySQLdb
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql import base
from gevent import monkey

from infra.mysql.connection import BlockingConnection, CooperativeConnection, RawConnection, connection_params
from infra.mysql.errors import LOST, UNREACHABLE, BreakerOpen, error_number
from infra.mysql.features import DatabaseFeatures
from infra.mysql.options import PoolOptions
from infra.mysql.pool import breaker_of, pool_of
from infra.mysql.requests import note_use
from infra.resilience.breaker import CircuitOpen

# What a server tells of itself, asked once a process instead of once a greenlet.
_server_facts: dict[Hashable, dict[str, Any]] = {}


def is_cooperative() -> bool:
    """Whether waiting lets other greenlets run here: gevent has patched the sockets and this is the main thread."""
    return monkey.is_module_patched("socket") and gevent.get_hub().main_hub


class DatabaseWrapper(base.DatabaseWrapper):
    """A greenlet's (or thread's) connection to an alias; under gevent borrowed from the pool while it is used.

    Closing it, as Django does at the end of a request, gives the connection back.
    """

    features_class = DatabaseFeatures
    connection: RawConnection | None
    _patience_s: float | None = None

    @cached_property
    def pool_options(self) -> PoolOptions:
        """The bounds of this alias."""
        return PoolOptions.of(self.settings_dict)

    @property
    def server(self) -> Hashable:
        """What tells servers, users and databases apart."""
        return tuple(self.settings_dict[name] for name in ("HOST", "PORT", "USER", "NAME"))

    def get_connection_params(self) -> dict[str, Any]:
        """Return mysqlclient's parameters, with a limit for every call."""
        options = self.pool_options
        timeout_s = options.query_timeout_s if is_cooperative() else options.blocking_query_timeout_s
        return connection_params(
            super().get_connection_params(), options, query_timeout_s=self._patience_s or timeout_s
        )

    def get_new_connection(self, conn_params: dict[str, Any]) -> RawConnection:
        """Borrow a connection from the pool, or outside gevent make one."""
        note_use(self)
        if is_cooperative():
            return pool_of(self.alias, self.server, self.pool_options).acquire(conn_params)
        breaker = breaker_of(self.alias, self.server, self.pool_options)
        try:
            breaker.admit()
        except CircuitOpen as error:
            raise BreakerOpen(str(error)) from None
        try:
            connection = BlockingConnection(options=self.pool_options, breaker=breaker, **conn_params)
        except MySQLdb.Error as error:
            if error_number(error) in LOST | UNREACHABLE:
                breaker.record_failure()
            else:
                breaker.record_success()
            raise
        breaker.record_success()
        return connection

    def init_connection_state(self) -> None:
        """Check the server's version once a process; the session was set up when the connection was made."""
        BaseDatabaseWrapper.init_connection_state(self)

    def ensure_connection(self) -> None:
        """Connect if need be, also when the server hung up on a connection that lay idle between two transactions."""
        connection = self.connection
        if connection is not None and not self.in_atomic_block and self.autocommit and connection.is_lost_while_idle():
            self.close()
        super().ensure_connection()

    def _start_transaction_under_autocommit(self) -> None:
        """Open a transaction in one round trip; Django calls this instead of switching autocommit off and on again."""
        assert self.connection is not None  # noqa: S101 - Django has connected
        with self.wrap_database_errors:
            self.connection.query(b"START TRANSACTION")

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        """Switch autocommit; a connection that is gone needs no new one for having it on.

        Without this, the end of an atomic block whose connection was lost would connect again, and the error of that
        would hide the block's own, CommitOutcomeUnknown among them.
        """
        if autocommit and self.connection is None and not self.in_atomic_block:
            self.autocommit = True
            return
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)

    def close_if_unusable_or_obsolete(self) -> None:
        """End of a request or task: give a pooled connection back; it is looked at there."""
        if self.in_atomic_block:
            return
        if isinstance(self.connection, CooperativeConnection):
            self.close()
            return
        super().close_if_unusable_or_obsolete()

    def is_usable(self) -> bool:
        """Whether the server answers."""
        connection = self.connection
        if connection is None or connection.broken:
            return False
        try:
            connection.query(b"DO 0")
        except (MySQLdb.Error, OperationalError):
            return False
        return True

    @contextmanager
    def patience(self, query_timeout_s: float) -> Iterator[None]:
        """Allow statements such as ALTER TABLE to take longer, outside gevent and outside transactions.

        Works on a connection of its own, made at the first statement and closed at the end.
        """
        self.validate_no_atomic_block()
        self.close()
        self._patience_s = query_timeout_s
        try:
            yield
        finally:
            self._patience_s = None
            self.close()

    @cached_property
    def mysql_server_data(self) -> dict[str, Any]:
        """What the server tells of itself; the same for all connections of the process."""
        facts = _server_facts.get(self.server)
        if facts is None:
            facts = _server_facts[self.server] = super().mysql_server_data
        return facts

    def _close(self) -> None:
        connection = self.connection
        if connection is None:
            return
        with self.wrap_database_errors:
            if isinstance(connection, CooperativeConnection):
                connection.give_back()
            else:
                connection.close()
