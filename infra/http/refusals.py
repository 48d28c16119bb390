"""What the server itself refuses: the reason, and the problem answer that tells it."""

import json
import secrets
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from infra.errors import STATUS_BY_CODE, Code
from infra.observability.scope import REQUEST_ID_PATTERN


class Refused(Exception):
    """A request that goes no further than the server; its connection is closed behind the answer.

    `detail` is fixed text: it repeats nothing of what the client sent.
    """

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


TIMED_OUT: Final = (Code.REQUEST_TIMEOUT, "The request did not arrive in time.")
INTERNAL_ERROR: Final = (Code.INTERNAL_ERROR, "The error has been logged.")


def bad_request(detail: str) -> Refused:
    """Return the refusal of what is not HTTP, or could be read in two ways."""
    return Refused(Code.BAD_REQUEST, detail)


def problem_bytes(code: Code, detail: str, *, request_id: str | None = None) -> bytes:
    """Return a whole HTTP/1.1 answer that carries the problem and closes the connection.

    The client's own request id is taken over if it is well formed.
    """
    status = STATUS_BY_CODE[code]
    if request_id is None or REQUEST_ID_PATTERN.match(request_id) is None:
        request_id = secrets.token_hex(16)
    body = json.dumps(
        {
            "type": f"urn:floodgate:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": str(code),
            "trace_id": request_id,
        }
    ).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        "Connection: close\r\n"
        "Cache-Control: no-store\r\n"
        "Content-Type: application/problem+json\r\n"
        f"X-Request-Id: {request_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
