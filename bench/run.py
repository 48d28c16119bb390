"""Runs one load scenario against the running stack, checks what it left behind and writes the result.

`make bench SCENARIO=place` does this. Every figure stands beside a control measured in the same run, since machines
differ and drift: C1 is a stock gunicorn-gevent that answers the same requests with fixed bytes. The scenario fails,
with a reason, when the shards hold another number of orders than were acknowledged or the audit finds anything.
"""

import argparse
import json
import os
import platform
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import requests
from django.conf import settings

django.setup()

from apps.orders.selectors import count_orders
from infra.sharding.months import Month

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
DRAIN_S = 2
AUDIT_WAIT_S = 60
STOCK_FOR_BENCH = 10_000_000
SHOPPER_COUNT = 4_000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk reported of one load; times in milliseconds."""

    window_s: float
    sent: int
    answered: int
    succeeded: int
    orders: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    socket_errors: int
    codes: dict[str, int]

    @property
    def per_second(self) -> float:
        """Successful answers a second of the sending window."""
        return self.succeeded / self.window_s


@dataclass(slots=True)
class Result:
    """One scenario's result; the fields that scripts rely on come first."""

    scenario: str
    qps: float
    control_qps: float
    ratio: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    errors: dict[str, int]
    cpu_us_per_request: dict[str, float]
    acknowledged: int
    stored: int
    audit_findings: int
    machine: dict[str, object]
    port: str = "internal"
    connections: int = 0
    window_s: float = 0.0
    django_control_qps: float = 0.0
    at: str = ""
    failures: list[str] = field(default_factory=list)


class Scenario:
    """What a load sends, and how many orders it must leave behind for each acknowledged request."""

    name: str
    stores_orders = False

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def prepare(self) -> list[str]:
        """Make what the load needs and return the files that the load script reads."""
        raise NotImplementedError

    def finish(self) -> None:
        """Undo what `prepare` opened."""

    def _write(self, name: str, lines: Iterable[str]) -> str:
        path = self.workspace / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    def _shoppers(self) -> str:
        """Make shoppers over all shards and write their tokens and addresses."""
        made = self.workspace / "shoppers.jsonl"
        manage("bench_shoppers", "--count", str(SHOPPER_COUNT), "--out", str(made))
        shoppers = map(json.loads, made.read_text().splitlines())
        return self._write("shoppers.tsv", (f"{each['access']}\t{each['address_id']}" for each in shoppers))

    def _skus(self) -> str:
        """Lift the stock of every SKU, so that no order is refused, and write them."""
        skus = [sku["sku"] for product in products() for sku in product["skus"]]
        manage("adjust_stock", *skus, "--to", str(STOCK_FOR_BENCH), "--reason", "bench")
        return self._write("skus.txt", skus)

    def _paths(self) -> str:
        """Write the products' addresses."""
        return self._write("paths.txt", (f"/api/v1/products/{product['id']}" for product in products()))


class PlaceScenario(Scenario):
    """Thousands of shoppers over all shards place orders of one or two real SKUs."""

    name = "place"
    stores_orders = True

    def prepare(self) -> list[str]:
        """Make shoppers and stock."""
        return [self._shoppers(), self._skus()]


class ReadScenario(Scenario):
    """Details of real products, over the whole catalog."""

    name = "read"

    def prepare(self) -> list[str]:
        """List the products' addresses."""
        return [self._paths()]


class MixedScenario(Scenario):
    """Nine details of products for each order."""

    name = "mixed"
    stores_orders = True

    def prepare(self) -> list[str]:
        """Make shoppers and stock, and list the products' addresses."""
        return [self._shoppers(), self._skus(), self._paths()]


class FlashDirectScenario(Scenario):
    """Thousands of shoppers buy one SKU in a flash sale that does not run dry."""

    name = "flash-direct"
    stores_orders = True

    def prepare(self) -> list[str]:
        """Make shoppers and open a sale."""
        shoppers = self._shoppers()
        sku = products()[0]["skus"][0]["sku"]
        manage("adjust_stock", sku, "--to", str(STOCK_FOR_BENCH), "--reason", "bench")
        told = manage(
            "flash_sale", "create", "--sku", sku, "--price", "1.00", "--quota", str(STOCK_FOR_BENCH // 2),
            "--per-user-limit", "999", "--starts-in", "0", "--lasts", "3600", "--mode", "direct",
        )  # fmt: skip
        self._sale_id = told.splitlines()[-1]
        manage("flash_sale", "warm_up", self._sale_id)
        return [shoppers, self._write("sale.tsv", [f"{self._sale_id}\t{sku}"])]

    def finish(self) -> None:
        """End the sale, so that its unsold units are stock again."""
        manage("flash_sale", "end", self._sale_id)


SCENARIOS = {scenario.name: scenario for scenario in (PlaceScenario, ReadScenario, MixedScenario, FlashDirectScenario)}


def main() -> int:
    """Run the scenario named on the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--at", choices=["internal", "public"], default="internal", help="gunicorn's port or nginx's")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="floodgate-bench-") as folder:
        scenario = SCENARIOS[options.scenario](Path(folder))
        files = scenario.prepare()

        def load(url: str, seconds: float) -> Load:
            return run_wrk(scenario.name, url, files, connections=options.connections, window_s=seconds)

        controls = {}
        for name in ("bare", "django_view"):
            with control_server(name) as url:
                load(url, 2)  # warm
                controls[name] = load(url, options.seconds / 2)
        url = settings.INTERNAL_URL if options.at == "internal" else settings.PUBLIC_URL
        load(url, 2)  # warm; counted neither before nor after
        stored_before = stored_orders()
        cpu_before = cpu_by_process()
        measured = load(url, options.seconds)
        cpu_after = cpu_by_process()
        stored = stored_orders() - stored_before if scenario.stores_orders else 0
        scenario.finish()
    findings = audit_findings()
    result = judge(
        scenario,
        at=options.at,
        connections=options.connections,
        measured=measured,
        controls=controls,
        stored=stored,
        findings=findings,
    )
    result.cpu_us_per_request = {
        name: round((cpu_after[name] - before) * 1e6 / max(1, measured.answered), 1)
        for name, before in cpu_before.items()
        if name in cpu_after
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"latest-{scenario.name}.json"
    path.write_text(json.dumps(asdict(result), indent=2) + "\n")
    report(result, path)
    return 1 if result.failures else 0


def judge(
    scenario: Scenario,
    *,
    at: str,
    connections: int,
    measured: Load,
    controls: dict[str, Load],
    stored: int,
    findings: int,
) -> Result:
    """Put the figures together and name everything that makes the run invalid."""
    acknowledged = measured.orders
    result = Result(
        scenario=scenario.name,
        qps=round(measured.per_second, 1),
        control_qps=round(controls["bare"].per_second, 1),
        ratio=round(measured.per_second / controls["bare"].per_second, 4),
        p50_ms=measured.p50_ms,
        p90_ms=measured.p90_ms,
        p95_ms=measured.p95_ms,
        p99_ms=measured.p99_ms,
        requests=measured.answered,
        errors=measured.codes,
        cpu_us_per_request={},
        acknowledged=acknowledged,
        stored=stored,
        audit_findings=findings,
        machine=machine(),
        port=at,
        connections=connections,
        window_s=measured.window_s,
        django_control_qps=round(controls["django_view"].per_second, 1),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if acknowledged != stored:
        result.failures.append(f"{acknowledged} orders were acknowledged and {stored} are stored")
    if findings:
        result.failures.append(f"the audit has {findings} findings")
    if measured.succeeded == 0:
        result.failures.append("no request succeeded")
    return result


def report(result: Result, path: Path) -> None:
    """Print the result as a person reads it."""
    print(f"{result.scenario}: {result.qps:,.0f}/s at {result.connections} connections, {result.port} port")
    print(
        f"  C1 {result.control_qps:,.0f}/s, ratio {result.ratio:.3f}"
        f" (minimal Django view {result.django_control_qps:,.0f}/s)"
    )
    print(f"  ms: p50 {result.p50_ms}  p90 {result.p90_ms}  p95 {result.p95_ms}  p99 {result.p99_ms}")
    print(f"  errors: {result.errors or 'none'}")
    costs = sorted(result.cpu_us_per_request.items(), key=lambda cost: -cost[1])
    print("  CPU µs a request: " + ", ".join(f"{name} {cost:,.0f}" for name, cost in costs if cost >= 1))
    if result.acknowledged:
        print(
            f"  acknowledged {result.acknowledged:,}, stored {result.stored:,}, audit findings {result.audit_findings}"
        )
    print(f"  written to {path.relative_to(ROOT)}")
    for failure in result.failures:
        print(f"FAILED: {failure}", file=sys.stderr)


def run_wrk(scenario: str, url: str, files: list[str], *, connections: int, window_s: float) -> Load:
    """Load one server for the window and return what was seen."""
    threads = 2
    command = [
        "wrk", f"-t{threads}", f"-c{connections}", f"-d{int(window_s) + DRAIN_S}s", "--timeout", "10s",
        "-s", str(ROOT / "bench" / "load.lua"), url,
        "--", scenario, str(window_s), secrets.token_hex(6), str(threads), *files,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=window_s + 30, check=False)
    if done.returncode != 0 or "BENCH answered" not in done.stdout:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    lines = re.findall(r"^BENCH (\w+) ?(.*)$", done.stdout, re.MULTILINE)
    figures = {name: float(value) for name, value in lines if name != "codes"}
    codes: Counter[str] = Counter()
    for name, value in lines:
        if name == "codes":
            codes.update({code: int(count) for code, count in re.findall(r"(\w+)=(\d+)", value)})
    return Load(
        window_s=window_s,
        sent=int(figures["sent"]),
        answered=int(figures["answered"]),
        succeeded=int(figures["succeeded"]),
        orders=int(figures["orders"]),
        p50_ms=figures["p50_ms"],
        p90_ms=figures["p90_ms"],
        p95_ms=figures["p95_ms"],
        p99_ms=figures["p99_ms"],
        socket_errors=int(figures["socket_errors"]),
        codes=dict(codes),
    )


@contextmanager
def control_server(name: str) -> Iterator[str]:
    """Run one of the controls on a free port next to the stack's for the length of the block."""

    port = int(settings.STAFF_URL.rsplit(":", 1)[1]) + 88
    command = [
        sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", f"127.0.0.1:{port}",
        "--keep-alive", "75", "--log-level", "warning", f"bench.control:{name}",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_answering(url)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_answering(url: str) -> None:
    deadline_s = time.monotonic() + 15
    while True:
        try:
            requests.post(url, json={}, timeout=2)
        except requests.RequestException:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return


def manage(*arguments: str) -> str:
    """Run a management command with this process's environment and return its output."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def audit_findings() -> int:
    """Return how many findings last after the recovery bounds."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "audit", "--wait", str(AUDIT_WAIT_S), "--json"],
        capture_output=True, text=True, timeout=AUDIT_WAIT_S + 120, check=False,
    )  # fmt: skip
    try:
        return len(json.loads(done.stdout)["lasting"])
    except (ValueError, KeyError) as error:
        raise SystemExit(f"the audit gave no result:\n{done.stdout}{done.stderr}") from error


def products() -> list[dict[str, Any]]:
    """Return all products through the API."""

    found: list[dict[str, Any]] = []
    query = {"limit": "100"}
    while True:
        answer = requests.get(f"{settings.INTERNAL_URL}/api/v1/products", params=query, timeout=10).json()
        found += answer["results"]
        if not answer["next"]:
            return found
        query["cursor"] = answer["next"]


def stored_orders() -> int:
    """Count the real orders in all shards that were placed in this and the previous month."""

    month = Month.of(datetime.now(UTC))
    return count_orders(month) + count_orders(month.previous())


def cpu_by_process() -> dict[str, float]:
    """Return the CPU seconds that each of the stack's processes and its children have used."""
    status = subprocess.run(
        ["make", "-s", "status"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    ).stdout
    roots = {name: int(pid) for name, pid in re.findall(r"^(\S+) RUNNING pid (\d+)", status, re.MULTILINE)}
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
            used_s[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    totals = dict.fromkeys(roots, 0.0)
    names = {pid: name for name, pid in roots.items()}
    for pid, seconds in used_s.items():
        ancestor: int | None = pid
        while ancestor is not None and ancestor not in names:
            ancestor = parents.get(ancestor)
        if ancestor is not None:
            totals[names[ancestor]] += seconds
    return totals


def machine() -> dict[str, object]:
    """Describe the machine, without its name."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cores": os.cpu_count(),
        "cpu": model.group(1) if model else platform.machine(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
