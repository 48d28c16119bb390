"""Refusals of points."""

from infra.errors import InvalidState, LimitReached


class PointsShort(Exception):
    """Some user of the batch has fewer points than it spends; nothing of it holds, the caller rolls back."""


class PointsMismatch(Exception):
    """Balance, lots and ledger of a user do not agree. Only a change of rows by hand leads here."""


class GrantTooLarge(LimitReached):
    """The grant is above what one may have, or its user has been granted as much as staff may give in a while."""

    title = "Grant too large"


class GrantRepeated(InvalidState):
    """A grant under this id was made already, of other points or to another user."""

    title = "Grant already made"
