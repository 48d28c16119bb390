"""Receivers of webhooks: local https servers under a certificate authority of the tests' own."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import trustme

from infra.outgoing import client

HOST = "shop.example"


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """What came to a server, and what it answers: a status, headers, and after how many seconds."""

    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    requests: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/hook"

    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]


def _handler_of(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with receiver.lock:
                receiver.requests.append(Received(self.path, headers, body, time.time()))
                receiver.at_once += 1
                receiver.most_at_once = max(receiver.most_at_once, receiver.at_once)
            time.sleep(receiver.delay_s)
            with receiver.lock:
                receiver.at_once -= 1
            try:
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
            except OSError:
                pass  # who asked has gone

        def log_message(self, *args):
            pass

    return Handler


class Authority:
    """Makes certificates, and the file that says whom to trust."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def context(self, name: str = HOST) -> ssl.SSLContext:
        """Return a server's context with a certificate for a name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)
        return context


@contextmanager
def https_receiver(authority: Authority, *, name: str = HOST) -> Iterator[Receiver]:
    """Serve https on loopback until the block ends."""
    receiver = Receiver()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(receiver))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that breaks off is what many tests are about
    server.socket = authority.context(name).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def raw_receiver(authority: Authority, serve: Callable[[ssl.SSLSocket], None]) -> Iterator[str]:
    """Serve one TLS connection by a function; yields the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        try:
            raw, _ = listener.accept()
            with authority.context().wrap_socket(raw, server_side=True) as tls:
                serve(tls)
        except OSError:
            pass  # the client has gone, or never came

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"https://{HOST}:{listener.getsockname()[1]}/hook"
    finally:
        listener.close()
        thread.join(0.5)


class Names:
    """A resolver that says what the test wants: each call the next of a name's answers, the last one for ever."""

    def __init__(self, monkeypatch) -> None:
        self._answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(client, "resolve", self._resolve)

    def say(self, host: str, *answers: list[str]) -> None:
        self._answers[host] = list(answers)

    def _resolve(self, host: str, port: int):
        self.asked.append(host)
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(-2, "Name or service not known")
        texts = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in texts]
