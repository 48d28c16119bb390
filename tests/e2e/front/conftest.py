"""A real nginx with the project's configuration, in front of an application that does as it is told."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.local.instance import SYSTEM_PATH
from deploy.local.nginx import LOOPBACK, Front, program_command
from tests.integration.mysql.servers import free_port

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Seen:
    """A request as the application got it."""

    method: str
    path: str
    peer: str
    peer_port: int
    headers: dict[str, str]


class _Handler(BaseHTTPRequestHandler):
    """Answers by the last part of the path; keeps connections."""

    protocol_version = "HTTP/1.1"
    server: "Application"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, *self.client_address[:2], headers))
        behaviour = self.path.partition("?")[0].rpartition("/")[2]
        if behaviour == "gone":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if behaviour == "hung":
            time.sleep(self.server.hang_s)
        body = json.dumps({"n": len(self.server.seen)}).encode()
        status = 404 if behaviour == "nothing" else 200
        if status == 200 and self.headers.get("If-None-Match") == self.server.etag:
            status, body = 304, b""
        self.send_response(status)
        self.send_header("X-Request-Id", "made-by-the-application")
        self.send_header("Cache-Control", "public, max-age=1")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Type", "application/json")
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_TRACE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class Application(ThreadingHTTPServer):
    """Stands where gunicorn stands, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.seen: list[Seen] = []
        self.hang_s = 3.0
        self.etag = '"first"'
        self._thread = threading.Thread(target=lambda: self.serve_forever(poll_interval=0.02), daemon=True)
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what went wrong, unless it is that the client has gone: some tests let nginx give up waiting."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()
        self._thread.join()


@dataclass
class Nginx:
    """A running nginx."""

    front: Front
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.port = int(self.front.listen.rpartition(":")[2])
        self.log = self.front.folder / "nginx.log"

    def start(self) -> None:
        """Start as the supervisor does, and wait until this one listens."""
        nginx = _nginx()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                program_command(nginx, self.front.folder), cwd=ROOT, stdout=log, stderr=log, process_group=0
            )
        deadline = time.monotonic() + 10
        while True:
            with suppress(OSError):
                if (self.front.folder / "run" / "nginx.master").read_text().strip() == str(self.process.pid):
                    return
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the master a signal that ends it, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)

    def reload(self) -> None:
        """Have it take up its configuration anew."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def workers(self) -> list[int]:
        """The ids of the worker processes."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def ask(
        self, method: str, path: str, *, source: str = "127.0.0.1", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Send one request on a connection of its own; returns status, headers (lower case), and the JSON body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15, source_address=(source, 0))
        try:
            connection.request(
                method, path, body=body, headers={k.replace("_", "-"): value for k, value in headers.items()}
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            json.loads(text) if text else None,
        )

    def ask_raw(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        """Send bytes as they are and read the first answer to its end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(request)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            text = answer.read()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            json.loads(text) if text else None,
        )


def _nginx() -> str:
    for folder in SYSTEM_PATH.split(":"):
        if os.access(f"{folder}/nginx", os.X_OK):
            return f"{folder}/nginx"
    raise AssertionError("nginx is not on this machine")


@pytest.fixture
def application() -> Iterator[Application]:
    """An application that answers."""
    running = Application(free_port())
    yield running
    running.stop()


@contextmanager
def _fronts(folder: Path) -> Iterator[Callable[..., Nginx]]:
    started: list[Nginx] = []

    def make(upstream_port: int, *, exempt_networks: tuple[str, ...] = LOOPBACK, **values: int) -> Nginx:
        front = Front(
            folder=folder / f"front-{len(started)}",
            listen=f"127.0.0.1:{free_port()}",
            upstream=f"127.0.0.1:{upstream_port}",
            exempt_networks=exempt_networks,
            **values,
        )
        front.write_configuration()
        started.append(Nginx(front))
        started[-1].start()
        return started[-1]

    yield make
    for nginx in started:
        if nginx.process is not None and nginx.process.poll() is None:
            nginx.end()


@pytest.fixture
def make_front(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Start an nginx in front of a port, with limits as asked."""
    with _fronts(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, Application]]:
    application = Application(free_port())
    with _fronts(tmp_path_factory.mktemp("fronts")) as make:
        yield make(application.server_port), application
    application.stop()


@pytest.fixture
def shared_front(_shared: tuple[Nginx, Application]) -> Nginx:
    """An nginx for tests that leave nothing in its cache."""
    return _shared[0]


@pytest.fixture
def shared_application(_shared: tuple[Nginx, Application]) -> Application:
    """What stands behind it, with nothing seen yet."""
    _shared[1].seen.clear()
    return _shared[1]


@pytest.fixture
def front(application: Application, make_front: Callable[..., Nginx]) -> Nginx:
    """An nginx in front of the application."""
    return make_front(application.server_port, answer_within_s=1)
