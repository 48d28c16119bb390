"""Locks by name on one database server, for work that must not run twice at once (DDL, seeding)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final

from django.db import connections
from django.db.backends.utils import CursorWrapper


class NamedLockTimeout(Exception):
    """Another process has held the lock for the whole time."""


DDL_TIMEOUT_S: Final = 3600.0
_WAIT_S: Final = 2


@contextmanager
def named_lock(alias: str, name: str, *, timeout_s: int = 60) -> Iterator[None]:
    """Hold a lock (GET_LOCK) named after this database and `name` on the connection of `alias`.

    The server gives it up when the connection ends, however the process dies. Raises NamedLockTimeout; with a
    `timeout_s` of 0, at once.
    """
    connection = connections[alias]
    database = connection.settings_dict["NAME"]
    # MySQL takes at most 64 characters.
    key = f"floodgate:{blake2b(f'{database}:{name}'.encode(), digest_size=16).hexdigest()}"
    deadline = time.monotonic() + timeout_s
    with connection.cursor() as cursor:
        # In short waits: a statement that takes long is taken for a server that hangs.
        while not _acquired(cursor, key, wait_s=min(_WAIT_S, timeout_s)):
            if time.monotonic() >= deadline:
                raise NamedLockTimeout(f"{name!r} on {alias} is held by another process for more than {timeout_s} s.")
        try:
            yield
        finally:
            cursor.execute("SELECT RELEASE_LOCK(%s)", (key,))
            cursor.fetchone()


def _acquired(cursor: CursorWrapper, key: str, *, wait_s: int) -> bool:
    cursor.execute("SELECT GET_LOCK(%s, %s)", (key, wait_s))
    row = cursor.fetchone()
    return row is not None and row[0] == 1


@contextmanager
def ddl_lock(alias: str, name: str, *, timeout_s: int = 60) -> Iterator[None]:
    """Hold a named lock on a connection whose statements may take as long as an ALTER of a large table takes.

    Not inside a transaction.
    """
    connection: Any = connections[alias]
    with connection.patience(DDL_TIMEOUT_S), named_lock(alias, name, timeout_s=timeout_s):
        yield
