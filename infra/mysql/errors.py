"""What can go wrong between this process and a database server, beyond what the server itself reports.

All are `django.db.OperationalError`, so that Django's transaction handling treats them as its own, and they pass
through Django's error translation unchanged.
"""

from typing import Final

from django.db import DatabaseError, OperationalError

DUPLICATE_KEY: Final = 1062
NO_SUCH_TABLE: Final = 1146
LOCK_WAIT_TIMEOUT: Final = 1205
DEADLOCK: Final = 1213

# The client library's errors for a server that cannot be reached or is gone (2000 and up), and the server's own
# farewells: 1053 shutdown, 1152 to 1184 broken connections, 1927 killed (MariaDB), 4031 idle for too long (MySQL).
UNREACHABLE: Final = frozenset({2002, 2003, 2005, 2012})
LOST: Final = frozenset({1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2014, 2027, 2055, 4031})
# A statement that the server broke off: 1317 KILL QUERY, 1969 (MariaDB) and 3024 (MySQL) time limit.
INTERRUPTED: Final = frozenset({1317, 1969, 3024})


class PoolExhausted(OperationalError):
    """All connections of the alias are in use and none came free in time; nothing was sent."""


class DatabaseUnavailable(OperationalError):
    """The server did not answer in time or is known not to answer; what was not committed is rolled back."""


class BreakerOpen(DatabaseUnavailable):
    """The alias failed a moment ago and is left alone for a while; nothing was sent."""


class ConnectTimeout(DatabaseUnavailable):
    """No connection could be made in time."""


class QueryTimeout(DatabaseUnavailable):
    """A statement other than COMMIT had no answer in time; its connection is closed and its transaction ends."""


class CommitOutcomeUnknown(OperationalError):
    """The connection was lost or the deadline passed during COMMIT: committed or not, only a later look can tell."""


def error_number(exc: BaseException) -> int | None:
    """Return the server's or client library's error number of a database error, from Django or from MySQLdb."""
    number = exc.args[0] if exc.args else None
    return number if isinstance(number, int) else None


def is_duplicate_key(exc: BaseException) -> bool:
    """Whether a unique key refused the row (1062)."""
    return error_number(exc) == DUPLICATE_KEY


def is_deadlock(exc: BaseException) -> bool:
    """Whether the server rolled this transaction back to end a deadlock (1213)."""
    return error_number(exc) == DEADLOCK


def is_lock_wait_timeout(exc: BaseException) -> bool:
    """Whether a row lock was not had in time (1205); the statement is undone, the transaction is still open."""
    return error_number(exc) == LOCK_WAIT_TIMEOUT


def is_missing_table(exc: BaseException) -> bool:
    """Whether the table does not exist (1146)."""
    return error_number(exc) == NO_SUCH_TABLE


def is_connection_lost(exc: BaseException) -> bool:
    """Whether the server could not be reached, was lost, or did not answer in time, at whatever point."""
    if isinstance(exc, DatabaseUnavailable | CommitOutcomeUnknown):
        return True
    return isinstance(exc, DatabaseError) and error_number(exc) in LOST | UNREACHABLE
