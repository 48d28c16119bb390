"""Telling the owner of an account what has been done to it, at the e-mail address and phone that are proven."""

import logging
from collections.abc import Iterable
from typing import Final

from apps.users.senders.base import Notice, SendingFailed, current_sender
from apps.users.types import LoginKind, LoginName

_log: Final = logging.getLogger(__name__)


def tell(logins: Iterable[LoginName], notice: Notice) -> None:
    """Send a notice to each e-mail address and phone among the logins. Network; a carrier's failure is only logged."""
    for login in logins:
        if login.kind is LoginKind.USERNAME:
            continue
        try:
            current_sender().send_notice(login, notice)
        except SendingFailed:
            _log.warning("a notice to a %s was not sent", login.kind, exc_info=True)
