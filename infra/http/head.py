"""The head of a request: parsed by llhttp, and held to more than llhttp asks.

llhttp runs as strict as it is made: none of its leniencies is switched on. What it lets through although two servers
could read it in two ways is refused here (RFC 9112, sections 3.2, 6.1, 6.3 and 11.2).
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from infra.errors import Code
from infra.http.refusals import Refused, bad_request

HEAD_END: Final = b"\r\n\r\n"

_METHODS: Final = {name: name.decode() for name in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")}
# Other methods go to the application, which says 405; llhttp knows a fixed list and is shown a GET in their place.
_OTHER_METHOD: Final = re.compile(rb"[A-Z0-9!$%&'*+.^_`|~-]{3,20}")
_LONGEST_METHOD: Final = 20
_VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_ABSOLUTE_TARGET: Final = re.compile(
    rb"https?://([A-Za-z0-9._~%!$&'()*+,;=:\[\]-]+)(/[^?]*)?((?:\?.*)?)", re.IGNORECASE
)
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_SINGLE: Final = frozenset({b"host", b"content-length", b"content-type", b"transfer-encoding", b"expect"})

# Names as they came -> in lower case, and hosts that have been checked. Bounded: a client that makes up names fills
# them and then pays for itself.
_lower_names: dict[bytes, bytes] = {}
_MOST_NAMES: Final = 1024
_good_hosts: set[bytes] = set()
_MOST_HOSTS: Final = 64


class RequestHead:
    """What a request's head says.

    `path` is PATH_INFO as WSGI has it (percent-decoded, latin-1), `query` the bytes behind the question mark, `target`
    the request target as it came. `length` is that of the body, None for a chunked one. `expects_continue`: the client
    waits for a word before it sends the body.
    """

    __slots__ = (
        "_is_complete",
        "_problem",
        "expects_continue",
        "headers",
        "keeps_alive",
        "length",
        "method",
        "minor_version",
        "path",
        "query",
        "target",
    )

    def __init__(self, head: bytes, *, field_limit: int, field_size_limit: int, line_limit: int) -> None:
        """Parse the bytes of a head up to and with its empty line; raises Refused.

        `field_limit` is the most header fields, `field_size_limit` and `line_limit` the most bytes of one and of the
        request line.
        """
        line_end = head.find(b"\r\n")
        if line_end > line_limit:
            raise Refused(Code.URI_TOO_LONG, "The request line is too long.")
        if head.count(b"\r\n") - 2 > field_limit:
            raise Refused(Code.HEADERS_TOO_LARGE, "There are too many headers.")
        if len(head) - line_end > field_size_limit:
            _check_field_sizes(head[line_end + 2 :], field_size_limit)
        parts = head[:line_end].split(b" ")
        if len(parts) != 3:
            raise bad_request("The request line is malformed.")
        name, self.target, version = parts
        minor_version = _VERSIONS.get(version)
        if minor_version is None:
            raise bad_request("This server speaks HTTP/1.1 and HTTP/1.0.")
        self.minor_version = minor_version
        method = _METHODS.get(name)
        if method is None:
            if _OTHER_METHOD.fullmatch(name) is None or name == b"CONNECT":
                raise bad_request("The method is malformed or not one that a server answers.")
            method = name.decode()
            head = b"GET" + head[len(name) :]
        self.method = method
        self.headers: dict[bytes, bytes] = {}
        self._is_complete = False
        self._problem = ""
        try:
            HttpRequestParser(self).feed_data(head)
        except HttpParserUpgrade:
            # An offer to change the protocol, which a server may leave unanswered. llhttp takes the head's end for the
            # message's; the body is found by its length all the same.
            pass
        except HttpParserError as error:
            raise bad_request("This is not an HTTP request.") from error
        if self._problem:
            raise bad_request(self._problem)
        if not self._is_complete:
            raise bad_request("This is not an HTTP request.")
        self._read_target()
        self._read_framing()

    # -- what llhttp calls ----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field."""
        lower = _lower_names.get(name) or self._learn(name)
        value = value.strip(b" \t")
        headers = self.headers
        if lower not in headers:
            headers[lower] = value
        elif lower in _SINGLE:
            self._problem = "A header that may come once came twice."
        else:
            headers[lower] += b"," + value

    def on_headers_complete(self) -> None:
        """Note that llhttp sees the head's end where the server does."""
        self._is_complete = True

    def _learn(self, name: bytes) -> bytes:
        lower = name.lower()
        if b"_" in lower:
            # WSGI has one name for X-Forwarded-For and X_Forwarded_For.
            self._problem = "A header's name contains an underscore."
        elif len(_lower_names) < _MOST_NAMES:
            _lower_names[name] = lower
        return lower

    # -- what follows from it -------------------------------------------------------------------------------

    def _read_target(self) -> None:
        target, headers = self.target, self.headers
        host = headers.get(b"host")
        if host is None:
            if self.minor_version:
                raise bad_request("The Host header is missing.")
        elif host not in _good_hosts:
            _check_host(host)
        if target[:1] != b"/":
            if target == b"*" and self.method == "OPTIONS":
                pass
            elif (absolute := _ABSOLUTE_TARGET.fullmatch(target)) is not None:
                # RFC 9112, section 3.2.2: the target's host counts, whatever the Host header says.
                headers[b"host"], path, query = absolute.groups()
                target = (path or b"/") + query
            else:
                raise bad_request("The request target is malformed.")
        if b"#" in target:
            raise bad_request("The request target contains a fragment.")
        path, _, self.query = target.partition(b"?")
        self.path = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")

    def _read_framing(self) -> None:
        headers = self.headers
        connection = headers.get(b"connection")
        if connection is None:
            self.keeps_alive = bool(self.minor_version)
        else:
            wishes = [wish.strip() for wish in connection.lower().split(b",")]
            self.keeps_alive = b"close" not in wishes and (bool(self.minor_version) or b"keep-alive" in wishes)
        self.length: int | None = 0
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if coding is not None:
            if length is not None or not self.minor_version or coding.lower() != b"chunked":
                raise bad_request("The length of the body is told in a way that could be misread.")
            self.length = None
        elif length is not None:
            if _DIGITS.fullmatch(length) is None:
                raise bad_request("The Content-Length is not a number.")
            self.length = int(length)
        expected = headers.get(b"expect")
        self.expects_continue = False
        if expected is not None:
            if expected.lower() != b"100-continue":
                raise bad_request("This server meets no expectation but 100-continue.")
            self.expects_continue = bool(self.minor_version)


def check_beginning(received: bytes | bytearray, *, checked: int, line_limit: int) -> None:
    """Refuse a head whose end has not come yet as soon as it cannot become a good one.

    The first `checked` bytes have been seen before. Raises Refused.
    """
    if _BARE_LINE_FEED.search(received, max(checked - 1, 0)) is not None:
        raise bad_request("A line of the head ends with a bare line feed.")
    line_end = received.find(b"\r\n", 0, line_limit + 2)
    if line_end < 0 and len(received) > line_limit + 1:
        raise Refused(Code.URI_TOO_LONG, "The request line is too long.")
    if checked <= _LONGEST_METHOD < len(received) and b" " not in received[: _LONGEST_METHOD + 1]:
        raise bad_request("This is not an HTTP request.")


def _check_host(host: bytes) -> None:
    if _HOST.fullmatch(host) is None:
        raise bad_request("The Host header is malformed.")
    if len(_good_hosts) < _MOST_HOSTS:
        _good_hosts.add(host)


def _check_field_sizes(fields: bytes, limit: int) -> None:
    if any(len(line) + 2 > limit for line in fields.split(b"\r\n")):
        raise Refused(Code.HEADERS_TOO_LARGE, "A header is too large.")
