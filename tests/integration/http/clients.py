"""A client that sends bytes as they are and reads answers by the book, and gunicorn to send them to."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[3]
LEAN = "infra.http.worker.LeanWorker"
STOCK = "infra.http.stock_worker.ProblemGeventWorker"
SITE = "tests.integration.http.site"
SERVER = "infra.http.server"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, port: int, timeout: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file: BinaryIO = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *pieces: bytes, pause_s: float = 0) -> None:
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause_s)

    def answer(self, method: str = "GET") -> Answer | None:
        """Read one answer; None if the server has closed the connection instead."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        version, status, _ = line.decode("latin-1").split(" ", 2)
        headers = self._headers()
        code = int(status)
        if method == "HEAD" or code in {100, 204, 304}:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._file.read(int(headers["content-length"]))
        else:
            body = self._file.read()
        return Answer(code, headers, body, version)

    def is_open(self) -> bool:
        """Whether the server answers another request on this connection."""
        try:
            self.send(b"GET /204 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = self.answer()
        except OSError:
            return False
        return answer is not None and answer.status == 204

    def is_closed(self) -> bool:
        """Whether the server has sent its last byte, waiting for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self._file.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        return headers

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            assert self._file.read(2) == b"\r\n"
        assert self._file.readline() == b"\r\n"
        return body


def exchange(port: int, *pieces: bytes, method: str = "GET", timeout: float = 5) -> tuple[Answer | None, bool]:
    """Send the pieces on a fresh connection; returns the answer and whether the connection stayed open."""
    with Client(port, timeout) as client:
        # The server may refuse, and close, before it has been sent everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(*pieces, pause_s=0.01 if len(pieces) > 1 else 0)
        answer = client.answer(method)
        return answer, answer is not None and client.is_open()


@dataclass
class Gunicorn:
    """A running gunicorn: its master, its two ports, its log."""

    process: subprocess.Popen[bytes]
    port: int
    other_port: int
    log_path: Path

    def log(self) -> str:
        return self.log_path.read_text()

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(child) for child in children.split()}

    def wait_for(self, text: str, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log()}"
            time.sleep(0.05)

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                with Client(self.port) as client:
                    client.send(b"GET /204 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    if (answer := client.answer()) is not None and answer.status == 204:
                        return
            except OSError:
                time.sleep(0.05)
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_end(process_id: int, seconds: float) -> None:
    """Wait until a process is gone, which must be within the time."""
    began = time.monotonic()
    while Path(f"/proc/{process_id}").exists():
        assert time.monotonic() - began < seconds, "the process is still there"
        time.sleep(0.05)


@contextlib.contextmanager
def gunicorn(
    folder: Path,
    worker: str,
    *options: str,
    bounds: dict[str, float] | None = None,
    config: str = "",
    server_module: str = SERVER,
) -> Iterator[Gunicorn]:
    """Run gunicorn with one worker; `bounds` are set on the lean worker, which has no settings for them."""
    port, other_port = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log_path, config_path = folder / "gunicorn.log", folder / "gunicorn.conf.py"
    lines = [f"    worker.{name} = {value}" for name, value in (bounds or {}).items()] or ["    pass"]
    config_path.write_text("\n".join(["def post_fork(server, worker):", *lines, config]))
    command = [
        sys.executable,
        "-m",
        server_module,
        "-c",
        str(config_path),
        "-k",
        worker,
        "-w",
        "1",
        "-b",
        f"127.0.0.1:{port}",
    ]
    command += [
        "-b",
        f"127.0.0.1:{other_port}",
        "--log-level",
        "info",
        "--keep-alive",
        "20",
        "--worker-connections",
        "12000",
        "--backlog",
        "2048",
    ]
    command += ["--no-control-socket", "--graceful-timeout", "12", "--limit-request-line", "8190"]
    command += ["--access-logfile", "-", *options, SITE]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=subprocess.STDOUT
        )
    server = Gunicorn(process, port, other_port, log_path)
    try:
        server.wait_until_it_serves()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
