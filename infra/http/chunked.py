"""Decodes a chunked request body (RFC 9112, section 7.1), a piece at a time and without a socket."""

import re
from typing import Final

from infra.errors import Code
from infra.http.refusals import Refused, bad_request

# The grammar allows any number of hexadecimal digits, and extensions behind them. Nobody who speaks to an API sends
# extensions, and servers that skip them differently have been made to disagree about where a chunk ends.
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LONGEST_SIZE_LINE: Final = 8
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t \x21-\x7e\x80-\xff]*")
# Fields that would alter routing, framing or authentication (RFC 9110, section 6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te"}
)
# More and smaller chunks than a client has reason to send cost more to take apart than to transmit.
_MOST_CHUNKS: Final = 8192


class ChunkedDecoder:
    """Takes a chunked body apart; trailers are checked and dropped.

    `limit` is the most bytes that the decoded body may have, `trailer_limit` the most that its trailers may take.
    """

    def __init__(self, *, limit: int, trailer_limit: int) -> None:
        self.body = bytearray()
        self._limit = limit
        self._trailer_room = trailer_limit
        self._chunks = 0
        self._missing = 0  # bytes of the current chunk that have not come yet, its CRLF included
        self._in_trailers = False
        self._buffer = b""

    def feed(self, piece: bytes) -> bytes | None:
        """Take the next bytes; return what follows the body once it is whole, else None.

        Raises Refused for what the grammar does not know, and for a body above the limit.
        """
        buffer = self._buffer + piece
        at = 0
        while True:
            if self._missing > 2:
                data = buffer[at : at + self._missing - 2]
                self.body += data
                self._missing -= len(data)
                at += len(data)
            if self._missing:
                end = buffer[at : at + self._missing]
                if end != b"\r\n"[2 - self._missing :][: len(end)]:
                    raise bad_request("A chunk of the body does not end where it should.")
                self._missing -= len(end)
                at += len(end)
                if self._missing:
                    break
            line_end = buffer.find(b"\r\n", at)
            if line_end < 0:
                self._check_beginning(buffer[at:])
                break
            line = buffer[at:line_end]
            at = line_end + 2
            if not self._in_trailers:
                self._begin_chunk(line)
            elif line:
                self._check_trailer(line)
            else:
                return buffer[at:]
        self._buffer = buffer[at:]
        return None

    def _begin_chunk(self, line: bytes) -> None:
        if _SIZE.fullmatch(line) is None:
            raise bad_request("A chunk's size is not a plain hexadecimal number.")
        size = int(line, 16)
        self._chunks += 1
        if self._chunks > _MOST_CHUNKS:
            raise bad_request("The body comes in too many chunks.")
        if len(self.body) + size > self._limit:
            raise Refused(Code.PAYLOAD_TOO_LARGE, "The body is larger than any request's may be.")
        if size == 0:
            self._in_trailers = True
        else:
            self._missing = size + 2

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_room -= len(line) + 2
        if self._trailer_room < 0:
            raise Refused(Code.HEADERS_TOO_LARGE, "The trailers are too large.")
        if _TRAILER.fullmatch(line) is None or line.partition(b":")[0].lower() in _NOT_IN_TRAILERS:
            raise bad_request("A trailer is malformed or may not be one.")

    def _check_beginning(self, line: bytes) -> None:
        """Refuse a line whose end has not come yet as soon as it cannot become a good one."""
        if b"\n" in line:
            raise bad_request("A line of the body ends with a bare line feed.")
        if self._in_trailers:
            if len(line) > self._trailer_room:
                raise Refused(Code.HEADERS_TOO_LARGE, "The trailers are too large.")
        elif len(line.removesuffix(b"\r")) > _LONGEST_SIZE_LINE:
            raise bad_request("A chunk's size is not a plain hexadecimal number.")
