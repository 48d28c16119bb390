"""Answers on their way out: what a WSGI application or a lane endpoint says, as bytes on the wire."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from infra.http.head import RequestHead
from infra.http.messages import LaneResponse

if TYPE_CHECKING:
    from infra.http.connection import Connection
    from infra.http.worker import LeanWorker

# RFC 9112, section 4, and RFC 9110, section 5: what may stand in a status line, a name and a value.
_STATUS: Final = re.compile(r"[2-9][0-9]{2}(?: [\t \x21-\x7e\x80-\xff]*)?")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
# The server's own business, which gunicorn drops from an application's headers too.
_DROPPED: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "server",
        "date",
    }
)
_BODILESS: Final = frozenset({204, 304})
_WHOLE: Final = (list, tuple)

# Names as the application writes them -> in lower case, and status lines -> codes; only good ones. Bounded.
_lower_names: dict[str, str] = {}
_codes: dict[str, int] = {}
_MOST_NAMES: Final = 1024

_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_CONNECTION_LINES: Final = {True: "Connection: keep-alive\r\n", False: "Connection: close\r\n"}


class ClientGone(Exception):
    """The other end has closed the connection, or was too slow to take the answer."""


class LoggedAnswer:
    """What gunicorn's access log reads of an answer that no WSGI application gave."""

    __slots__ = ("headers", "response_length", "sent", "status")

    def __init__(self, *, status: int, headers: list[tuple[str, str]], sent: int) -> None:
        self.status = _STATUS_LINES.get(status) or f"{status} "
        self.headers = headers
        self.sent = self.response_length = sent

    @classmethod
    def of_lane(cls, response: LaneResponse) -> "LoggedAnswer":
        """Make it of a lane's response."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        return cls(status=response.status, headers=headers, sent=len(response.body))


class WsgiAnswer:
    """One answer of a WSGI application (PEP 3333).

    The head leaves with the first bytes of the body, so that a small answer is one packet. An answer without a
    Content-Length gets one if its whole body is at hand, else it is chunked, or ended by the connection's end on
    HTTP/1.0. After `send`, `keeps_alive` says whether the connection may go on.
    """

    __slots__ = (
        "_carries_body",
        "_chunked",
        "_code",
        "_connection",
        "_lines",
        "_request",
        "_worker",
        "headers",
        "is_begun",
        "keeps_alive",
        "response_length",
        "sent",
        "status",
    )

    def __init__(self, connection: "Connection", worker: "LeanWorker", request: RequestHead) -> None:
        self._connection = connection
        self._worker = worker
        self._request = request
        self._carries_body = self._chunked = False
        self._code = 0
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self.response_length: int | None = None
        self.sent = 0
        self.is_begun = False
        self.keeps_alive = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take status and headers, as PEP 3333 asks for it.

        Raises ValueError and TypeError for what may not stand in a head, AssertionError for a second call without
        `exc_info`, and what `exc_info` carries if the head has left already.
        """
        if exc_info is not None:
            try:
                if self.is_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise AssertionError("the response has been started before")
        code = _codes.get(status) or _code_of(status)
        length = None
        lines = []
        for name, value in headers:
            lower = _lower_names.get(name) or _learn(name)
            if not value.isprintable() and _VALUE.fullmatch(value) is None:
                raise ValueError(f"the value of {name} holds what no header may")
            if lower == "content-length":
                if not value.isdigit():
                    raise ValueError("the Content-Length is not a number")
                length = int(value)
                if code == 204:
                    continue
            elif lower in _DROPPED:
                continue
            lines.append(f"{name}: {value}\r\n")
        self.status, self.headers, self._lines = status, headers, lines
        self._code = code
        self._carries_body = self._request.method != "HEAD" and code not in _BODILESS
        self.response_length = length
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body now, and the head ahead of the first one. Raises ClientGone."""
        if not isinstance(data, bytes):
            raise TypeError(f"a part of the body is a {type(data).__name__}, not bytes")
        head = b"" if self.is_begun else self._begin()
        if data and self._carries_body:
            if self.response_length is not None:
                data = data[: self.response_length - self.sent]
            self.sent += len(data)
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (len(data), data)
        else:
            data = b""
        if head or data:
            self._connection.send(head + data)

    def send(self, result: Iterable[bytes]) -> None:
        """Send what the application returned. Raises ClientGone, and whatever the application raises meanwhile."""
        if isinstance(result, _WHOLE) and not self.is_begun and self.status is not None:
            body = b"".join(result)
            if self.response_length is None and self._code not in _BODILESS:
                self.response_length = len(body)
                self._lines.append(f"Content-Length: {len(body)}\r\n")
            self.write(body)
        else:
            for part in result:
                if part or not isinstance(part, bytes):
                    self.write(part)
                if not self._carries_body:
                    break
            if not self.is_begun:
                self.write(b"")
        if self._chunked:
            self._connection.send(b"0\r\n\r\n")
        elif self._carries_body and self.response_length is not None and self.sent != self.response_length:
            self._worker.log.error("an answer of %d bytes ended after %d", self.response_length, self.sent)
            self.keeps_alive = False

    def _begin(self) -> bytes:
        if self.status is None:
            raise AssertionError("the application did not start its response")
        request = self._request
        is_framed = self.response_length is not None or not self._carries_body
        self._chunked = not is_framed and request.minor_version == 1
        # Asked as late as can be: a worker that has been told to end meanwhile says so.
        self.keeps_alive = request.keeps_alive and self._worker.keeps_connections and (is_framed or self._chunked)
        self.is_begun = True
        if self._chunked:
            self._lines.append("Transfer-Encoding: chunked\r\n")
        return (
            f"HTTP/1.{request.minor_version} {self.status}\r\n{self._worker.date_line()}"
            f"{_CONNECTION_LINES[self.keeps_alive]}{''.join(self._lines)}\r\n"
        ).encode("latin-1")


def lane_bytes(request: RequestHead, response: LaneResponse, *, keeps_alive: bool, date_line: str) -> bytes:
    """Return a lane's whole answer as it goes on the wire."""
    status = response.status
    body = response.body
    head = (
        f"HTTP/1.{request.minor_version} {_STATUS_LINES.get(status) or status}\r\n{date_line}"
        f"{_CONNECTION_LINES[keeps_alive]}"
    )
    parts = [head.encode("latin-1")]
    parts += [b"%b: %b\r\n" % header for header in response.headers]
    if status in _BODILESS:
        parts.append(b"\r\n")
    else:
        parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
        if request.method != "HEAD":
            parts.append(body)
    return b"".join(parts)


def _code_of(status: str) -> int:
    if _STATUS.fullmatch(status) is None:
        raise ValueError(f"{status!r} is not the status line of an answer")
    code = int(status[:3])
    if len(_codes) < _MOST_NAMES:
        _codes[status] = code
    return code


def _learn(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a header's name")
    lower = name.lower()
    if len(_lower_names) < _MOST_NAMES:
        _lower_names[name] = lower
    return lower
