"""gunicorn's gevent worker whose own refusals are problem answers too.

gunicorn answers what its parser refuses with an HTML page; the contract wants an RFC 9457 problem with a request id
from whatever layer answers. The lean worker took this one's place; it stays as the reference that the lean one is
compared with, and can be chosen instead of it.
"""

from typing import Any, Final

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

from infra.errors import Code
from infra.http.refusals import INTERNAL_ERROR, problem_bytes

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
        if isinstance(exc, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName):
            refusal = None  # the application's fault, not the client's
        if refusal is None:
            self.log.error("error outside the application", exc_info=exc)
            refusal = INTERNAL_ERROR
        else:
            self.log.info("refused a request: %s", type(exc).__name__)
        try:
            util.write_nonblock(client, problem_bytes(*refusal))
        except OSError:
            self.log.debug("the client was gone before it could be told")
