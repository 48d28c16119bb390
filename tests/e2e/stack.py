"""The running stack as a client, an operator and a fault injector meet it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from infra.sharding.slots import SLOT_COUNT, slot_of_user

ROOT = Path(__file__).resolve().parents[2]
# Beside the ports of the servers that the other tests use, so that moving those moves these.
TEST_PORT_BASE = urlsplit(os.environ.get("FLOODGATE_PUBLIC_URL", "http://127.0.0.1:18000")).port or 18000
PORT_BASE = TEST_PORT_BASE + 500
INSTANCE = f"e2e-{PORT_BASE}"
REQUEST_TIMEOUT_S = 12.0


def wait_for(what: str, question: Callable[[], Any], *, within_s: float, every_s: float = 0.2) -> Any:
    """Ask until the answer is true and return it; fail with what was waited for."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what} did not happen within {within_s} s")
        time.sleep(every_s)


def must_be_repeated(answer: requests.Response) -> bool:
    """Say whether the contract asks the client to send the same key again."""
    in_progress = answer.status_code == 409 and answer.json()["code"] == "request_in_progress"
    return in_progress or answer.status_code in (429, 503)


@dataclass
class Shopper:
    """A shopper with a token and an address, as `bench_shoppers` makes them or `register` does."""

    stack: "Stack"
    user_id: str
    access: str
    address_id: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, *, key: str | None = None, **kwargs: Any) -> requests.Response:
        """Send a request as this shopper."""
        headers = {"Authorization": f"Bearer {self.access}"} | ({"Idempotency-Key": key} if key else {})
        return self.session.request(
            method,
            self.stack.api + path,
            headers=headers | kwargs.pop("headers", {}),
            timeout=REQUEST_TIMEOUT_S,
            **kwargs,
        )

    def place(self, *items: tuple[str, int], key: str | None = None, **fields: Any) -> requests.Response:
        """Place an order of (SKU, quantity) lines."""
        body = {
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items],
            "address_id": self.address_id,
            **fields,
        }
        return self.call("POST", "/orders", key=key or secrets.token_hex(12), json=body)

    def place_until_settled(
        self, *items: tuple[str, int], key: str | None = None, within_s: float = 60
    ) -> requests.Response:
        """Place with one key until the answer is neither 503 nor `request_in_progress`, as the contract asks."""
        key = key or secrets.token_hex(12)

        def attempt() -> list[requests.Response]:
            try:
                answer = self.place(*items, key=key)
            except requests.RequestException:
                return []
            if not must_be_repeated(answer):
                return [answer]  # a list, since a refusal is falsy
            time.sleep(int(answer.headers["Retry-After"]))
            return []

        [answer] = wait_for("a settled answer", attempt, within_s=within_s)
        return answer

    def pay(self, order_id: str, outcome: str = "succeed", **fields: Any) -> requests.Response:
        """Start a payment at the sandbox and say there how it ends; returns the started payment."""
        started = self.call(
            "POST", f"/orders/{order_id}/payments", key=secrets.token_hex(12), json={"provider": "sandbox"}
        )
        assert started.status_code == 201, started.text
        told = requests.post(started.json()["redirect_url"], json={"outcome": outcome, **fields}, timeout=10)
        assert told.ok, told.text
        return started

    def order(self, order_id: str) -> dict[str, Any]:
        """Return the order as it is now."""
        answer = self.call("GET", f"/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for_status(self, order_id: str, status: str, *, within_s: float) -> dict[str, Any]:
        """Wait until the order has the status and return it."""

        def asked() -> dict[str, Any] | None:
            try:
                answer = self.call("GET", f"/orders/{order_id}")
            except requests.ConnectionError:  # the test has killed who would have answered
                return None
            if answer.status_code in (503, 504):
                return None
            assert answer.status_code == 200, answer.text
            order: dict[str, Any] = answer.json()
            return order if order["status"] == status else None

        return wait_for(f"order {order_id} {status}", asked, within_s=within_s)


class Stack:
    """One instance of the local stack."""

    def __init__(self) -> None:
        self.public = f"http://127.0.0.1:{PORT_BASE}"
        self.api = self.public + "/api/v1"
        self.staff = f"http://127.0.0.1:{PORT_BASE + 2}"
        self._stopped_pids: set[int] = set()
        self._commands: subprocess.Popen[str] | None = None

    @classmethod
    def start(cls) -> "Stack":
        """Bring the instance up and return it once ready."""
        stack = cls()
        done = stack._run("up", timeout_s=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return stack

    def stop(self) -> None:
        """Bring the instance down."""
        if self._commands is not None:
            self._commands.communicate()  # it ends with its input
        self.resume_all()
        self._run("down", timeout_s=120)

    def _run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _command(self, *arguments: str) -> list[str]:
        script = str(ROOT / "deploy" / "local" / "stack.py")
        return [sys.executable, script, "--instance", INSTANCE, "--port-base", str(PORT_BASE), *arguments]

    def _environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith(("FLOODGATE_", "DJANGO_"))}

    def manage(self, *arguments: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a management command against this instance, in a process of its own (see command_server)."""
        if self._commands is None:
            self._commands = subprocess.Popen(
                self._command("exec", "--", sys.executable, "-m", "tests.e2e.command_server"),
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        self._commands.stdin.write(json.dumps([timeout_s, *arguments]) + "\n")
        self._commands.stdin.flush()
        status, output, errors = json.loads(self._commands.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, output, errors)

    def status(self) -> str:
        """Return the operator's status page."""
        return self._run("status").stdout

    def pids(self) -> dict[str, int]:
        """Return the process id of each running program."""
        return {name: int(pid) for name, pid in re.findall(r"^(\S+) RUNNING pid (\d+)", self.status(), re.MULTILINE)}

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to one program, once it runs; returns its process id."""
        pid = wait_for(f"{name} running", lambda: self.pids().get(name), within_s=30)
        os.kill(pid, number)
        if number is signal.SIGSTOP:
            self._stopped_pids.add(pid)
        elif number is signal.SIGCONT:
            self._stopped_pids.discard(pid)
        return pid

    def kill_and_empty(self, name: str) -> None:
        """Kill a server whose files are gone, so that it comes back with nothing."""
        pid = self.signal(name, signal.SIGSTOP)  # it must not write them anew
        for path in (ROOT / "var" / INSTANCE / "data" / name).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.kill(pid, signal.SIGKILL)
        self._stopped_pids.discard(pid)

    def resume_all(self) -> None:
        """Let every stopped program go on."""
        while self._stopped_pids:
            try:
                os.kill(self._stopped_pids.pop(), signal.SIGCONT)
            except ProcessLookupError:
                continue

    def ready(self) -> str:
        """Return what the readiness check says, or "" when nobody answers."""
        try:
            return str(requests.get(self.public + "/healthz/ready", timeout=10).json()["status"])
        except (requests.RequestException, ValueError, KeyError):
            return ""

    def wait_until_ok(self, *, within_s: float = 120) -> None:
        """Wait until the stack is ready again."""
        wait_for("ready ok", lambda: self.ready() == "ok", within_s=within_s)

    def shoppers(self, count: int) -> list[Shopper]:
        """Make new shoppers over all shards."""
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as file:
            done = self.manage("bench_shoppers", "--count", str(count), "--out", file.name)
            assert done.returncode == 0, done.stdout + done.stderr
            rows = [json.loads(line) for line in Path(file.name).read_text().splitlines()]
        return [Shopper(self, row["user_id"], row["access"], row["address_id"]) for row in rows]

    def shoppers_by_shard(self, count: int) -> dict[str, list[Shopper]]:
        """Make new shoppers and sort them by the shard that holds them."""
        sorted_shoppers: dict[str, list[Shopper]] = {}
        for shopper in self.shoppers(count):
            sorted_shoppers.setdefault(self.shard_of(shopper), []).append(shopper)
        return sorted_shoppers

    def shard_of(self, shopper: Shopper) -> str:
        """Return the alias that holds the shopper; two shards begin with half of the slots each, in order."""
        return f"shard_{slot_of_user(int(shopper.user_id)) * 2 // SLOT_COUNT}"

    def skus(self, count: int) -> list[str]:
        """Return some real SKUs that no other test has been given."""
        if not hasattr(self, "_skus"):
            self._skus: list[str] = []
            query: dict[str, Any] = {"limit": 100}
            while len(self._skus) < 300:
                page = requests.get(self.api + "/products", params=query, timeout=10).json()
                self._skus += [product["skus"][0]["sku"] for product in page["results"] if product["skus"]]
                query["cursor"] = page["next"]
            self.set_stock(*self._skus, count=1000)  # an earlier session may have sold them out
        taken, self._skus = self._skus[:count], self._skus[count:]
        return taken

    def set_stock(self, *skus: str, count: int) -> None:
        """Set what can still be bought of each SKU."""
        done = self.manage("adjust_stock", *skus, "--to", str(count), "--reason", "end-to-end test")
        assert done.returncode == 0, done.stdout + done.stderr

    def audit(self, *, wait_s: int = 70) -> None:
        """Fail unless the audit is clean, after what is in flight has settled."""
        done = self.manage("audit", "--wait", str(wait_s), timeout_s=wait_s + 60)
        assert done.returncode == 0, done.stdout + done.stderr


def all_at_once(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same time and return their results in order."""
    calls = list(calls)
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
