"""Failures of a database connection that callers tell apart."""

from django.db import OperationalError


class PoolExhausted(OperationalError):
    """No connection became free within the limit; nothing was sent."""


class CommitOutcomeUnknown(OperationalError):
    """The connection was lost, or the time limit passed, while a COMMIT was under way: it may have happened."""
