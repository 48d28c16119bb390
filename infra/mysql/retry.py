"""What a database error means, and the one place that retries deadlocks and lock waits."""

from collections.abc import Callable
from typing import Final, TypeVar

from django.db import Error, IntegrityError, OperationalError

Result = TypeVar("Result")
_DUPLICATE_KEY: Final = 1062
_LOCK_WAIT_TIMEOUT: Final = 1205
_DEADLOCK: Final = 1213
_NO_SUCH_TABLE: Final = 1146


def error_number(exc: BaseException) -> int | None:
    """Return the server's error number, or None if the error did not come from a server."""
    if isinstance(exc, Error) and exc.args and isinstance(exc.args[0], int):
        return exc.args[0]
    return None


def is_duplicate_key(exc: BaseException) -> bool:
    """Say whether a unique key refused the statement."""
    return isinstance(exc, IntegrityError) and error_number(exc) == _DUPLICATE_KEY


def is_deadlock(exc: BaseException) -> bool:
    """Say whether the server rolled the transaction back to end a deadlock."""
    return error_number(exc) == _DEADLOCK


def is_lock_wait_timeout(exc: BaseException) -> bool:
    """Say whether a row lock was not to be had in time."""
    return error_number(exc) == _LOCK_WAIT_TIMEOUT


def is_missing_table(exc: BaseException) -> bool:
    """Say whether the table does not exist."""
    return error_number(exc) == _NO_SUCH_TABLE


def with_deadlock_retry(transaction: Callable[[], Result], *, attempts: int = 3) -> Result:
    """Run a whole transaction again when it met a deadlock or waited too long for a lock.

    `transaction` must open and close its own `atomic` block. Raises the last OperationalError after `attempts`.
    """
    for _ in range(attempts - 1):
        try:
            return transaction()
        except OperationalError as error:
            if not (is_deadlock(error) or is_lock_wait_timeout(error)):
                raise
    return transaction()
