"""The sender of a developer's machine: keeps messages in the directory's database, for `manage.py last_code`."""

from datetime import UTC, datetime

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.users.models import SentMessage
from apps.users.senders.base import Notice
from apps.users.types import LoginName
from infra.crypto.blind_index import blind_index


class LocalSender:
    """Stores instead of sending; refuses to exist under production, where it would keep codes in clear."""

    def __init__(self) -> None:
        if settings.IS_PRODUCTION:
            raise ImproperlyConfigured("The local sender keeps codes in clear; set FLOODGATE_CODE_SENDER.")

    def send_code(self, to: LoginName, code: str) -> None:
        """Store a code."""
        self._store(to, code=code, text="Your code.")

    def send_notice(self, to: LoginName, notice: Notice) -> None:
        """Store a notice."""
        self._store(to, code="", text=notice)

    @staticmethod
    def _store(to: LoginName, *, code: str, text: str) -> None:
        SentMessage.objects.create(
            digest=blind_index(to.kind, to.value)[0].digest,
            kind=to.kind,
            code=code,
            text=text,
            sent_at=datetime.now(UTC),
        )
