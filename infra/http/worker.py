"""The lean gunicorn worker: gunicorn's gevent worker with a connection loop of its own.

Booting, heartbeats, accepting, the bound on connections, reload and graceful end are gunicorn's. Parsing, limits, time
limits and answers are this package's: `connection` has the loop, `head` and `chunked` read, `answers` write.
"""

from datetime import datetime
from io import BytesIO
from time import monotonic, time
from typing import Any, Final

from gunicorn import SERVER, util
from gunicorn.config import PostRequest, PreRequest
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import WSGIErrorsWrapper, base_environ
from gunicorn.workers.ggevent import VERSION, GeventWorker

from infra.http.answers import LoggedAnswer, WsgiAnswer
from infra.http.connection import Connection
from infra.http.head import RequestHead
from infra.http.messages import FastLane

# Header names -> their names in the environ. Bounded.
_environ_keys: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_MOST_KEYS: Final = 1024
_PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")


class LeanWorker(GeventWorker):
    """Serves plain HTTP/1.1 and 1.0, a greenlet a connection; TLS, HTTP/2 and the PROXY protocol end at a proxy.

    The limits on request line and headers, the idle time of a connection and all that concerns the worker's life are
    gunicorn's settings. The bounds below have no setting there (bytes and seconds; a `post_fork` hook may set them).

    A worker that has been told to end answers what is under way and what still comes with `Connection: close`, and
    closes a connection once it has been idle for `drain_idle_s`, so that a busy client's next request is not cut off.
    """

    # The biggest body that any endpoint takes is that of a payment callback.
    max_body_bytes: int = 256 * 1024
    max_head_bytes: int = 64 * 1024
    head_timeout_s: float = 10
    body_timeout_s: float = 10
    send_timeout_s: float = 10
    linger_timeout_s: float = 2
    drain_idle_s: float = 2
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cfg = self.cfg
        self.line_limit: int = cfg.limit_request_line or self.max_head_bytes
        self.field_limit: int = cfg.limit_request_fields or self.max_head_bytes
        self.field_size_limit: int = cfg.limit_request_field_size or self.max_head_bytes
        self.idle_timeout_s: float = cfg.keepalive or self.head_timeout_s
        self.fast_lane: FastLane | None = None
        self._allows_keepalive = cfg.keepalive > 0
        self._connections: set[Connection] = set()
        self._server_names: dict[int, Any] = {}
        self._environ: dict[str, Any] = base_environ(cfg) | {
            "wsgi.errors": ErrorStream(cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": VERSION,
        }
        self._date_at = 0
        self._date_line = ""
        self._watches_requests = False

    # -- the worker's life, as gunicorn calls it ------------------------------------------------------------

    def init_process(self) -> None:
        """Boot in the forked process, and serve until told to end. Raises RuntimeError for settings beyond it."""
        if self.cfg.is_ssl or self.cfg.proxy_protocol != "off":
            raise RuntimeError("the lean worker serves plain HTTP only: use the stock worker, or a proxy in front")
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and with it its fast lane."""
        super().load_wsgi()
        self.fast_lane = getattr(self.wsgi, "fast_lane", None)
        self._watches_requests = (
            self.log.access_log_enabled
            or type(self.log).access is not Logger.access
            or self.cfg.pre_request is not PreRequest.default
            or self.cfg.settings["post_request"].get() is not PostRequest.default
        )

    def run(self) -> None:
        """Serve until told to end."""
        # A listener has no name any more when a connection that came just before it was closed begins.
        self._server_names = {id(listener): listener.getsockname() for listener in self.sockets}
        super().run()

    def notify(self) -> None:
        """Once a second: tell the master that the event loop turns, and end the waits that have lasted too long."""
        super().notify()
        now = monotonic()
        drained_at = now if self.alive else now + self.idle_timeout_s - self.drain_idle_s
        for connection in tuple(self._connections):
            if connection.deadline <= (drained_at if connection.is_idle else now):
                connection.expire()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, in its own greenlet; the server closes it afterwards."""
        connection = Connection(self, client, addr, self._server_names[id(listener)])
        self._connections.add(connection)
        try:
            connection.serve()
        finally:
            self._connections.discard(connection)

    # -- what a connection asks its worker ------------------------------------------------------------------

    @property
    def keeps_connections(self) -> bool:
        """Whether a connection may go on after the answer that is about to be sent."""
        return self.alive and self._allows_keepalive

    def count_request(self) -> None:
        """Count a request towards the most that this process may serve."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def date_line(self) -> str:
        """Return the header lines that say who answers, and when."""
        now = int(time())
        if now != self._date_at:
            self._date_line = f"Server: {SERVER}\r\nDate: {util.http_date(now)}\r\n"
            self._date_at = now
        return self._date_line

    def environ_of_connection(self, client: Any, address: Any, server_name: Any) -> dict[str, Any]:
        """Return what all requests of a connection have in common."""
        environ = self._environ | {"gunicorn.socket": client}
        if isinstance(address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address[0], str(address[1])
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server_name[0], str(server_name[1])
        else:  # a Unix socket, whose clients have no address
            environ["REMOTE_ADDR"] = ""
            environ["SERVER_NAME"], environ["SERVER_PORT"] = "localhost", ""
        return environ

    def environ_of_request(self, common: dict[str, Any], request: RequestHead, body: bytes) -> dict[str, Any]:
        """Return the WSGI environ of a request whose body has been read.

        A body that came in chunks looks like one that came whole: applications go by CONTENT_LENGTH.
        """
        environ = common.copy()
        for name, value in request.headers.items():
            environ[_environ_keys.get(name) or _learn(name)] = value.decode("latin-1")
        if request.length is None:
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["REQUEST_METHOD"] = request.method
        environ["PATH_INFO"] = request.path
        environ["QUERY_STRING"] = request.query.decode("latin-1")
        environ["RAW_URI"] = request.target.decode("latin-1")
        environ["SERVER_PROTOCOL"] = _PROTOCOLS[request.minor_version]
        environ["wsgi.input"] = BytesIO(body)
        return environ

    def request_begins(self, request: RequestHead) -> "WatchedRequest | None":
        """Call the hook ahead of a request; returns None if nobody watches requests."""
        if not self._watches_requests:
            return None
        watched = WatchedRequest(request)
        self.cfg.pre_request(self, watched)
        return watched

    def request_ends(
        self, watched: "WatchedRequest", environ: dict[str, Any], answer: WsgiAnswer | LoggedAnswer
    ) -> None:
        """Write the access log's line of a request, and call the hook behind it."""
        self.log.access(answer, watched, environ, datetime.now() - watched.started_at)  # noqa: DTZ005
        self.cfg.post_request(self, watched, environ, answer)


class WatchedRequest:
    """A request as gunicorn's access log and hooks know it."""

    __slots__ = ("headers", "method", "path", "query", "started_at", "uri", "version")

    def __init__(self, request: RequestHead) -> None:
        self.method = request.method
        self.uri = request.target.decode("latin-1")
        self.path = request.path
        self.query = request.query.decode("latin-1")
        self.version = (1, request.minor_version)
        self.headers = [
            (name.decode("latin-1").upper(), value.decode("latin-1")) for name, value in request.headers.items()
        ]
        self.started_at = datetime.now()  # noqa: DTZ005  # gunicorn's log wants a difference of naive times


class ErrorStream:
    """`wsgi.errors`: wherever gunicorn's error log goes at the moment, also after its files have been opened anew."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, text: str) -> None:
        """Write a piece of text."""
        WSGIErrorsWrapper(self._cfg).write(text)

    def writelines(self, texts: list[str]) -> None:
        """Write several."""
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""


def _learn(name: bytes) -> str:
    key = f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"
    if len(_environ_keys) < _MOST_KEYS:
        _environ_keys[name] = key
    return key
