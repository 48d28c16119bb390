"""JSON log lines with the ids of the request and without personal data."""

import logging
import re
from typing import Final

from pythonjsonlogger.json import JsonFormatter as _JsonFormatter

from infra.observability.scope import current_scope

_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
_PHONE: Final = re.compile(r"\+\d{6,15}\b")


def mask_personal_data(text: str) -> str:
    """Replace what looks like an e-mail address or an E.164 phone number."""
    return _PHONE.sub("+***", _EMAIL.sub("***@***", text))


class RequestScopeFilter(logging.Filter):
    """Adds request id, trace id and route to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Annotate the record; never drops one."""
        scope = current_scope()
        if scope is not None:
            record.request_id = scope.request_id
            record.trace_id = scope.trace_id
            record.route = scope.route
        return True


class JsonFormatter(_JsonFormatter):
    """One JSON object a line, times in UTC, e-mail addresses and phone numbers masked."""

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, style: str = "%") -> None:
        super().__init__(
            fmt,
            datefmt,
            style,
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return mask_personal_data(super().format(record))
