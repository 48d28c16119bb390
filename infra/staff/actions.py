"""The log of what the staff do, and tokens that let a form do its work once.

The row is written before the action and told how it ended. What it names lives in other databases, so nothing makes the
two one: a row that stays `begun` says that its process died on the way, and that somebody should look.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.contrib.auth.models import AbstractUser
from django.db import IntegrityError, transaction

from infra.errors import DomainError
from infra.mysql.errors import is_duplicate_key
from infra.sharding.placement import HOME
from infra.staff.models import Outcome, StaffAction

_DETAIL_LENGTH: Final = 500
_TOKEN_BYTES: Final = 16


class FormSentBefore(Exception):
    """The same form came before; `action` is what it did then."""

    def __init__(self, action: StaffAction) -> None:
        super().__init__(f"{action.kind} of {action.target}")
        self.action = action


def new_token() -> str:
    """Return what a form carries so that it does its work once."""
    return secrets.token_hex(_TOKEN_BYTES)


def is_token(text: str) -> bool:
    """Whether a text can be a token."""
    return len(text) == 2 * _TOKEN_BYTES and all(letter in "0123456789abcdef" for letter in text)


@contextmanager
def acting(
    staff: AbstractUser, *, kind: str, target: str, reason: str = "", detail: str = "", token: str = "", now: datetime
) -> Iterator[StaffAction]:
    """Log an action around its work: `done` when the block ends, `refused` when it raises a DomainError.

    Any other error leaves it `begun`: what became of it is not known. Raises FormSentBefore, before the block is
    entered, for a token that was used. Concurrency: a unique key lets one of many copies of a form in.
    """
    action = _write(staff, kind=kind, target=target, reason=reason, detail=detail, token=token, now=now)
    try:
        yield action
    except DomainError as refusal:
        _end(action, Outcome.REFUSED, str(refusal))
        raise
    _end(action, Outcome.DONE, action.detail)


def note(staff: AbstractUser, *, kind: str, target: str, reason: str = "", detail: str = "", now: datetime) -> None:
    """Log what is already done, or what was looked at."""
    with acting(staff, kind=kind, target=target, reason=reason, detail=detail, now=now):
        pass


def actions_on(target: str, *, limit: int) -> list[StaffAction]:
    """Return what was done to something, newest first."""
    return list(StaffAction.objects.using(HOME).filter(target=target).order_by("-id")[:limit])


def _write(
    staff: AbstractUser, *, kind: str, target: str, reason: str, detail: str, token: str, now: datetime
) -> StaffAction:
    action = StaffAction(
        staff_id=staff.pk,
        staff_name=staff.get_username(),
        kind=kind,
        target=target,
        reason=reason,
        detail=detail[:_DETAIL_LENGTH],
        token=token or None,
        at=now,
    )
    try:
        with transaction.atomic(using=HOME):
            action.save(using=HOME, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        raise FormSentBefore(StaffAction.objects.using(HOME).get(token=token)) from error
    return action


def _end(action: StaffAction, outcome: Outcome, detail: str) -> None:
    action.outcome, action.detail = outcome, detail[:_DETAIL_LENGTH]
    action.save(using=HOME, update_fields=["outcome", "detail"])
