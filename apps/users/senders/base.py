"""What a sender is; e-mail and SMS back ends implement it."""

from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from apps.users.types import LoginName


class Notice(StrEnum):
    """What an owner is told without a code."""

    REGISTRATION_ATTEMPT = "Somebody tried to register with this login. It is yours already; nothing has changed."
    CHANGE_ATTEMPT = "Somebody tried to add this login to their account. It is yours already; nothing has changed."
    LOGIN_CHANGED = "A login of your account was changed. If it was not you, write to us."
    ACCOUNT_DELETED = "Your account was deleted."
    PASSWORD_CHANGED = "The password of your account was changed."  # noqa: S105 - a notice, no password


class Sender(Protocol):
    """Sends to an e-mail address or phone. Network: call it outside transactions only."""

    def send_code(self, to: LoginName, code: str) -> None:
        """Send a code; returns when the message is with the carrier, raises SendingFailed otherwise."""

    def send_notice(self, to: LoginName, notice: Notice) -> None:
        """Send a notice; raises SendingFailed."""


class SendingFailed(Exception):
    """The carrier did not take the message."""


def current_sender() -> Sender:
    """Return the sender that the setting names."""
    return _sender(settings.CODE_SENDER)


@lru_cache(maxsize=4)
def _sender(path: str) -> Sender:
    sender: Sender = import_string(path)()
    return sender
