"""The request that is being served, known to logs and problem answers wherever they are made.

A context variable: under gevent each greenlet has its own.
"""

import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

REQUEST_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


@dataclass(slots=True)
class RequestScope:
    """Ids that tie together all that is written about one request."""

    request_id: str
    trace_id: str
    route: str = ""
    user_id: int | None = None


_current: ContextVar[RequestScope | None] = ContextVar("floodgate_request_scope", default=None)


def begin_scope(*, request_id: str | None) -> RequestScope:
    """Start the scope of a request; a request id is taken over if it is well formed, else one is made."""
    noise = os.urandom(32).hex()
    known = request_id is not None and REQUEST_ID_PATTERN.match(request_id) is not None
    scope = RequestScope(
        request_id=request_id if known and request_id is not None else noise[:32],
        trace_id=noise[32:],
    )
    _current.set(scope)
    return scope


def end_scope() -> None:
    """Forget the scope; the connection's next request starts its own."""
    _current.set(None)


def current_scope() -> RequestScope | None:
    """Return the scope of the request being served, or None outside one."""
    return _current.get()
