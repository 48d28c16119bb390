"""What can be wrong with an idempotency key."""

from infra.errors import Code, DomainError


class IdempotencyKeyReused(DomainError):
    """The key was used by this user for another body."""

    code = Code.IDEMPOTENCY_KEY_REUSED
    title = "Idempotency key reused"


class RequestInProgress(DomainError):
    """An earlier attempt with this key may still run."""

    code = Code.REQUEST_IN_PROGRESS
    title = "Request in progress"


class KeyTaken(Exception):
    """Another attempt has written this key: roll back, read its answer and give that."""
