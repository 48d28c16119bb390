"""Locks by name on one database server, for work that must not run twice at once (DDL, seeding)."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from django.db import connections


class NamedLockTimeout(Exception):
    """Another process has held the lock for the whole time."""


@contextmanager
def named_lock(alias: str, name: str, *, timeout_s: int = 60) -> Iterator[None]:
    """Hold a lock (GET_LOCK) named after this database and `name` on the connection of `alias`.

    The server gives it up when the connection ends, however the process dies. Raises NamedLockTimeout.
    """
    connection = connections[alias]
    database = connection.settings_dict["NAME"]
    # MySQL takes at most 64 characters.
    key = f"floodgate:{blake2b(f'{database}:{name}'.encode(), digest_size=16).hexdigest()}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", (key, timeout_s))
        row = cursor.fetchone()
        if row is None or row[0] != 1:
            raise NamedLockTimeout(f"{name!r} on {alias} is held by another process for more than {timeout_s} s.")
        try:
            yield
        finally:
            cursor.execute("SELECT RELEASE_LOCK(%s)", (key,))
            cursor.fetchone()
