"""One client's connection: reads requests one after the other, has each answered, and bounds the time for all of it.

No timer runs per request. A connection notes until when it may wait (`deadline`), and the worker looks at all of them
once a second; one that is late has its socket shut down, which wakes the greenlet that waits for it with an end of
file or a broken pipe. So nothing is ever thrown into a greenlet that has gone on to serve a request.
"""

from math import inf
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent

from infra.errors import STATUS_BY_CODE, Code
from infra.http.answers import ClientGone, LoggedAnswer, WsgiAnswer, lane_bytes
from infra.http.chunked import ChunkedDecoder
from infra.http.head import HEAD_END, RequestHead, check_beginning
from infra.http.messages import Endpoint, LaneRequest
from infra.http.refusals import INTERNAL_ERROR, TIMED_OUT, Refused, bad_request, problem_bytes

if TYPE_CHECKING:
    from infra.http.worker import LeanWorker, WatchedRequest

_RECEIVE_BYTES: Final = 16 * 1024
_RECEIVE_BODY_BYTES: Final = 64 * 1024
_SEND_BYTES: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """Serves one client in its own greenlet.

    `deadline` (monotonic seconds) is when the wait that goes on must be over, infinite while the application works.
    `is_idle` says that no byte of a next request has come.
    """

    __slots__ = (
        "_buffer",
        "_environ",
        "_hub",
        "_is_expired",
        "_is_sending",
        "_readable",
        "_socket",
        "_worker",
        "deadline",
        "is_idle",
        "peer",
    )

    def __init__(self, worker: "LeanWorker", socket: Any, address: Any, server_name: Any) -> None:
        self._worker = worker
        self._socket = socket
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(socket.fileno(), 1)
        self._buffer = b""
        self._is_expired = False
        self._is_sending = False
        self._environ: dict[str, Any] = worker.environ_of_connection(socket, address, server_name)
        self.peer: str = self._environ["REMOTE_ADDR"]
        self.deadline = inf
        self.is_idle = False

    def serve(self) -> None:
        """Answer requests until the connection is to be closed; closing the socket is left to the server."""
        request: RequestHead | None = None
        try:
            while True:
                request = None
                received = self._read_head()
                if received is None:
                    return
                worker = self._worker
                request = RequestHead(
                    received,
                    field_limit=worker.field_limit,
                    field_size_limit=worker.field_size_limit,
                    line_limit=worker.line_limit,
                )
                body = self._read_body(request)
                if self._is_expired:
                    # It came at the last moment, when nothing more could be received.
                    request.keeps_alive = False
                if not self._answer(request, body):
                    break
                if self._buffer:
                    # A client that sends ahead must not keep the others waiting.
                    gevent.sleep(0)
            if self._buffer:
                self._linger()
        except Refused as refused:
            self._refuse(refused.code, refused.detail, request)
        except (ClientGone, OSError) as error:
            self._worker.log.debug("the client is gone: %s", error)
        except Exception:
            self._worker.log.exception("Error handling a connection")
            self._refuse(*INTERNAL_ERROR, request)
        finally:
            self._readable.close()

    def expire(self) -> None:
        """End the wait that goes on, whatever it is for. Safe at any time from another greenlet."""
        self._is_expired = True
        self.deadline = inf
        try:
            self._socket.shutdown(SHUT_RDWR if self._is_sending else SHUT_RD)
        except OSError:
            self._worker.log.debug("the client was gone before its time was over")

    # -- reading --------------------------------------------------------------------------------------------

    def _read_head(self) -> bytes | None:
        """Return the bytes of the next head, or None if the client is through. Raises Refused, ClientGone."""
        buffer = self._buffer
        if not buffer:
            buffer = self._await_request()
            if not buffer:
                return None
        if buffer[0] == 13:
            buffer = self._skip_empty_line(buffer)
            if not buffer:
                return None
        end = buffer.find(HEAD_END)
        if end < 0:
            buffer, end = self._read_rest_of_head(buffer)
        end += len(HEAD_END)
        if end > self._worker.max_head_bytes:
            raise Refused(Code.HEADERS_TOO_LARGE, "The headers are too large.")
        self._buffer = buffer[end:]
        return buffer[:end]

    def _await_request(self) -> bytes:
        """Wait for the first bytes of a request; returns none when the client, or its time, is gone."""
        self.deadline = monotonic() + self._worker.idle_timeout_s
        self.is_idle = True
        self._hub.wait(self._readable)
        received: bytes = self._socket.recv(_RECEIVE_BYTES)
        self.is_idle = False
        return received

    def _skip_empty_line(self, buffer: bytes) -> bytes:
        """Drop the one empty line that a client may send before a request (RFC 9112, section 2.2)."""
        while len(buffer) < 3:
            if not b"\r\n".startswith(buffer):
                break
            more = self._await_request()
            if not more:
                return b""
            buffer += more
        return buffer.removeprefix(b"\r\n")

    def _read_rest_of_head(self, buffer: bytes) -> tuple[bytes, int]:
        worker = self._worker
        self.deadline = monotonic() + worker.head_timeout_s
        received = bytearray(buffer)
        checked = 0
        while True:
            check_beginning(received, checked=checked, line_limit=worker.line_limit)
            if len(received) > worker.max_head_bytes:
                raise Refused(Code.HEADERS_TOO_LARGE, "The headers are too large.")
            checked = len(received)
            received += self._receive(_RECEIVE_BYTES)
            end = received.find(HEAD_END, checked - len(HEAD_END) + 1 if checked >= len(HEAD_END) else 0)
            if end >= 0:
                return bytes(received), end

    def _read_body(self, request: RequestHead) -> bytes:
        """Return the whole body; what follows it stays in the buffer. Raises Refused, ClientGone."""
        length = request.length
        if length == 0:
            return b""
        buffer, limit = self._buffer, self._worker.max_body_bytes
        if length is not None and length > limit:
            raise Refused(Code.PAYLOAD_TOO_LARGE, "The body is larger than any request's may be.")
        if length is not None and len(buffer) >= length:
            self._buffer = buffer[length:]
            return buffer[:length]
        if request.expects_continue and not buffer:
            self.send(_CONTINUE)
        self.deadline = monotonic() + self._worker.body_timeout_s
        if length is None:
            return self._read_chunks(limit)
        pieces, missing = [buffer], length - len(buffer)
        while missing:
            piece = self._receive(min(missing, _RECEIVE_BODY_BYTES))
            pieces.append(piece)
            missing -= len(piece)
        self._buffer = b""
        return b"".join(pieces)

    def _read_chunks(self, limit: int) -> bytes:
        decoder = ChunkedDecoder(limit=limit, trailer_limit=self._worker.field_size_limit)
        rest = decoder.feed(self._buffer)
        while rest is None:
            rest = decoder.feed(self._receive(_RECEIVE_BODY_BYTES))
        self._buffer = rest
        return bytes(decoder.body)

    def _receive(self, most: int) -> bytes:
        """Wait for further bytes of the request that has begun; raises Refused at its end or the client's."""
        self._hub.wait(self._readable)
        received: bytes = self._socket.recv(most)
        if not received:
            if self._is_expired:
                raise Refused(*TIMED_OUT)
            raise bad_request("The request ended in the middle.")
        return received

    # -- answering ------------------------------------------------------------------------------------------

    def _answer(self, request: RequestHead, body: bytes) -> bool:
        """Answer one request, in the fast lane or by WSGI; returns whether the connection goes on."""
        worker = self._worker
        self.deadline = inf
        worker.count_request()
        watched = worker.request_begins(request)
        lane = worker.fast_lane
        if lane is not None:
            endpoint = lane.match(request.method, request.path)
            if endpoint is not None:
                keeps_alive = self._answer_in_lane(endpoint, request, body, watched)
                if keeps_alive is not None:
                    return keeps_alive
        return self._answer_by_wsgi(request, body, watched)

    def _answer_in_lane(
        self, endpoint: Endpoint, request: RequestHead, body: bytes, watched: "WatchedRequest | None"
    ) -> bool | None:
        """Return whether the connection goes on, or None if the endpoint leaves the request to WSGI."""
        worker = self._worker
        try:
            response = endpoint(
                LaneRequest(
                    method=request.method,
                    path=request.path,
                    query=request.query,
                    headers=request.headers,
                    body=body,
                    peer=self.peer,
                )
            )
            if response is None:
                return None
            keeps_alive = request.keeps_alive and worker.keeps_connections
            answer = lane_bytes(request, response, keeps_alive=keeps_alive, date_line=worker.date_line())
        except (Exception, SystemExit):
            worker.log.exception("Error handling request %s %s", request.method, request.path)
            raise Refused(*INTERNAL_ERROR) from None
        self.send(answer)
        if watched is not None:
            environ = worker.environ_of_request(self._environ, request, body)
            worker.request_ends(watched, environ, LoggedAnswer.of_lane(response))
        return keeps_alive

    def _answer_by_wsgi(self, request: RequestHead, body: bytes, watched: "WatchedRequest | None") -> bool:
        worker = self._worker
        environ = worker.environ_of_request(self._environ, request, body)
        answer = WsgiAnswer(self, worker, request)
        try:
            result = worker.wsgi(environ, answer.start_response)
            try:
                answer.send(result)
            finally:
                if watched is not None and answer.is_begun:
                    worker.request_ends(watched, environ, answer)
                if hasattr(result, "close"):
                    result.close()
        except ClientGone:
            raise
        except (Exception, SystemExit):
            worker.log.exception("Error handling request %s %s", request.method, request.path)
            if not answer.is_begun:
                raise Refused(*INTERNAL_ERROR) from None
            return False
        return answer.keeps_alive

    def _refuse(self, code: Code, detail: str, request: RequestHead | None) -> None:
        """Tell the client why, and close in a way that lets it hear."""
        worker = self._worker
        status = STATUS_BY_CODE[code]
        worker.log.info("refused a request with %s: %s", status, detail)
        request_id = None
        if request is not None:
            request_id = request.headers.get(b"x-request-id", b"").decode("latin-1")
        answer = problem_bytes(code, detail, request_id=request_id)
        if request is not None and request.method == "HEAD":
            answer = answer[: answer.index(HEAD_END) + len(HEAD_END)]
        if request is not None and (watched := worker.request_begins(request)) is not None:
            environ = worker.environ_of_request(self._environ, request, b"")
            sent = len(answer) - answer.index(HEAD_END) - len(HEAD_END)
            worker.request_ends(watched, environ, LoggedAnswer(status=status, headers=[], sent=sent))
        try:
            self.send(answer)
            self._linger()
        except (ClientGone, OSError):
            worker.log.debug("the client was gone before it could be told")

    # -- sending --------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of it; each part of it has its time. Raises ClientGone, also for a client that is too slow."""
        worker = self._worker
        self._is_sending = True
        self.deadline = monotonic() + worker.send_timeout_s
        try:
            sent = self._socket.send(data)
            if sent != len(data):
                view = memoryview(data)
                while sent < len(data):
                    self.deadline = monotonic() + worker.send_timeout_s
                    sent += self._socket.send(view[sent : sent + _SEND_BYTES])
        except OSError as error:
            raise ClientGone from error
        self._is_sending = False
        self.deadline = inf

    def _linger(self) -> None:
        """Let the client read the last answer before the connection is closed (RFC 9112, section 9.6).

        Closing with unread bytes would reset the connection, and the answer with it.
        """
        worker = self._worker
        self.deadline = monotonic() + worker.linger_timeout_s
        self._socket.shutdown(SHUT_WR)
        room = worker.max_body_bytes * 4
        while room > 0:
            self._hub.wait(self._readable)
            received = self._socket.recv(_RECEIVE_BODY_BYTES)
            if not received:
                return
            room -= len(received)
