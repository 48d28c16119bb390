"""Clearing rows whose retention is over, in deletes small enough to disturb nobody."""

import time
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connections

_PAUSE_S: Final = 0.05


def delete_older(alias: str, *, table: str, column: str, before: datetime) -> int:
    """Delete rows whose `column` (indexed) is before a moment, a batch at a time with pauses; returns how many.

    Stops after PURGE_DEADLINE_S seconds and leaves the rest to the next call. `table` and `column` are constants of the
    caller, never input.
    """
    started = time.monotonic()
    connection = connections[alias]
    bound = connection.ops.adapt_datetimefield_value(before)
    deleted_count = 0
    while time.monotonic() - started < settings.PURGE_DEADLINE_S:
        with connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE {column} < %s LIMIT %s",  # noqa: S608 - constants
                [bound, settings.PURGE_BATCH_ROWS],
            )
            batch_count = cursor.rowcount
        deleted_count += batch_count
        if batch_count < settings.PURGE_BATCH_ROWS:
            break
        time.sleep(_PAUSE_S)
    return deleted_count
