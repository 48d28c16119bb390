"""What notifications refuse."""

from infra.errors import Code, DomainError


class SubscriptionRefused(DomainError):
    """What the staff asked for cannot be done; says why."""

    code = Code.VALIDATION_ERROR
    title = "Subscription refused"


class SubscriptionNotFound(DomainError):
    """There is no such subscription."""

    code = Code.NOT_FOUND
    title = "Not found"


class EventsTokenInvalid(DomainError):
    """The bearer token is not that of an enabled subscription."""

    code = Code.TOKEN_INVALID
    title = "Token invalid"


class PositionGone(Exception):
    """Events after a reader's position are no longer kept."""
