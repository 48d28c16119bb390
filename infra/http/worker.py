"""gunicorn's gevent worker whose own refusals are problem answers too.

gunicorn answers what its parser refuses with an HTML page; the contract wants an RFC 9457 problem with a request id
from whatever layer answers.
"""

import json
import secrets
from http import HTTPStatus
from typing import Any, Final

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

from infra.errors import STATUS_BY_CODE, Code

_REFUSALS: Final[tuple[tuple[type[Exception], Code, str], ...]] = (
    (errors.LimitRequestLine, Code.URI_TOO_LONG, "The request line is too long."),
    (errors.LimitRequestHeaders, Code.HEADERS_TOO_LARGE, "The headers are too large or too many."),
    (errors.ParseException, Code.BAD_REQUEST, "This is not an HTTP request."),
)


class ProblemGeventWorker(GeventWorker):
    """The stock worker with problem answers for what never reaches the application."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer for a request that could not be parsed or whose handling broke, and close the connection."""
        refusal = next(((code, detail) for kind, code, detail in _REFUSALS if isinstance(exc, kind)), None)
        if refusal is None:
            self.log.error("error outside the application", exc_info=exc)
            refusal = (Code.INTERNAL_ERROR, "The error has been logged.")
        else:
            self.log.info("refused a request: %s", type(exc).__name__)
        try:
            util.write_nonblock(client, problem_bytes(*refusal))
        except OSError:
            self.log.debug("the client was gone before it could be told")


def problem_bytes(code: Code, detail: str) -> bytes:
    """Return a whole HTTP/1.1 answer that carries the problem and closes the connection."""
    status = STATUS_BY_CODE[code]
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
        "Connection: close\r\n"
        "Cache-Control: no-store\r\n"
        "Content-Type: application/problem+json\r\n"
        f"X-Request-Id: {request_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
