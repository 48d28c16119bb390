"""A sandbox of a test's own, a listener that takes its callbacks, and signed deliveries made by hand."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from deploy.sandbox.signing import SIGNATURE_HEADER, merchant_key, signature_header

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the secret of the sandbox of the tests, long enough"


class Listener:
    """Takes callbacks as the merchant's side would; answers with `status` and keeps what came."""

    def __init__(self) -> None:
        self.status = 200
        self.deliveries: list[tuple[float, dict[str, str], bytes]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.deliveries.append((time.time(), dict(self.headers), body))
                self.send_response(listener.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/callbacks"

    def events(self, reference: str | None = None) -> list[dict[str, Any]]:
        """Return the decoded bodies, in the order of their arrival; of one payment or refund, or all."""
        decoded = [json.loads(body) for _, _, body in tuple(self.deliveries)]
        if reference is None:
            return decoded
        return [e for e in decoded if e.get("payment", e.get("refund"))["reference"] == reference]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RunningSandbox:
    """`python -m deploy.sandbox` as a process of its own, which can be killed and started again on its books."""

    def __init__(self, folder: Path, *, callback_url: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.secret = SECRET
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "FLOODGATE_SANDBOX_URL": self.url,
            "FLOODGATE_SANDBOX_SECRET": SECRET,
            "FLOODGATE_SANDBOX_CALLBACK_URL": callback_url,
            "FLOODGATE_VAR_DIR": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {merchant_key(SECRET)}"

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "deploy.sandbox"], cwd=ROOT, env=self._environment)
        wait_until(self._answers, what="the sandbox's start")

    def kill(self) -> None:
        """Kill it as a power cut would: no handler of its own runs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=10)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the merchant's API (with the key) or any other path."""
        options.setdefault("timeout", 10)
        return self._session.request(method, self.url + path, **options)

    def pay(self, redirect_url: str, outcome: str, **fields: Any) -> requests.Response:
        """Decide a payment as the shopper."""
        return requests.post(redirect_url, json={"outcome": outcome, **fields}, timeout=10)

    def payment(self, reference: str) -> dict[str, Any]:
        return self.call("GET", f"/v1/payments/{reference}").json()

    def _answers(self) -> bool:
        try:
            return requests.get(self.url + "/healthz", timeout=2).ok
        except requests.RequestException:
            return False


@contextmanager
def running_sandbox(folder: Path, *, callback_url: str) -> Iterator[RunningSandbox]:
    """Run a sandbox for a test, however often the test kills it."""
    sandbox = RunningSandbox(folder, callback_url=callback_url)
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.end()


def delivery(
    reference: str,
    status: str,
    *,
    amount: str,
    currency: str = "GBP",
    event_id: str | None = None,
    account: str = "floodgate",
    secret: str = SECRET,
    at_s: float | None = None,
    **extra: Any,
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a callback, as the sandbox would send it."""
    subject = "refund" if reference.startswith("re_") else "payment"
    contents: dict[str, Any] = {"reference": reference, "status": status, "amount": amount, "currency": currency}
    if subject == "payment":
        contents["redirect_url"] = "http://127.0.0.1/pay/x"
    event = {
        "event_id": event_id or f"evt_{secrets.token_hex(8)}",
        "type": f"{subject}.{status}",
        "account": account,
        subject: contents,
        **extra,
    }
    body = json.dumps(event).encode()
    at_s = time.time() if at_s is None else at_s
    return body, {SIGNATURE_HEADER: signature_header(secret=secret, body=body, at_s=int(at_s))}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, what: str, within_s: float = 10.0) -> None:
    """Wait for something to become true; fails the test with its name when it does not."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.02)
