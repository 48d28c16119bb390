"""CPU a query: the cooperative backend beside Django's own backend, a thread pool over it, and PyMySQL.

`python -m bench.mysql_backend` runs each in a process of its own against the first shard of the running instance, in
turns, and prints the least of each, which other load on the machine disturbs least. CPU is the client's alone, user
and system, its threads included. The statements read no table, so that the server's part is small; each goes through
Django's cursor, which is the larger part of a short one.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "mysql-backend.json"
GREENLETS = 8
STATEMENTS = {
    "one row": "SELECT 1234567890123456789 AS id, 'paid' AS status, CAST(12.34 AS DECIMAL(14,2)), NOW(6) AS placed_at",
    "100 rows (14 kB)": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) "
        "SELECT i, REPEAT('x', 120) FROM n"
    ),
    "1,000 rows (140 kB)": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "SELECT i, REPEAT('x', 120) FROM n"
    ),
}
QUERIES = {"one row": 8_000, "100 rows (14 kB)": 1_600, "1,000 rows (140 kB)": 320}


@dataclass(frozen=True)
class Variant:
    """One way to ask a MySQL server from Django."""

    name: str
    engine: str
    gevent: bool
    pymysql: bool = False
    in_threads: bool = False


VARIANTS = {
    "cooperative": Variant("infra.mysql under gevent", "infra.mysql", gevent=True),
    "blocking": Variant("infra.mysql outside gevent", "infra.mysql", gevent=False),
    "django": Variant("Django's backend, blocking", "django.db.backends.mysql", gevent=False),
    "threads": Variant(
        "Django's backend in gevent's threads", "django.db.backends.mysql", gevent=True, in_threads=True
    ),
    "pymysql": Variant("PyMySQL under gevent", "django.db.backends.mysql", gevent=True, pymysql=True),
}


def measure(variant: Variant, statement: str, count: int) -> dict[str, float]:
    """Run `count` queries in this process; returns CPU and wall microseconds a query."""
    if variant.gevent:
        importlib.import_module("gevent.monkey").patch_all()
    if variant.pymysql:
        importlib.import_module("pymysql").install_as_MySQLdb()
    databases = importlib.import_module("config.settings.databases")
    settings = importlib.import_module("django.conf").settings
    shard = {**databases.DATABASES["shard_0"], "ENGINE": variant.engine}
    settings.configure(DATABASES={"default": shard}, USE_TZ=True)
    importlib.import_module("django").setup()
    connections = importlib.import_module("django.db").connections

    def ask_with(wrapper: Any) -> Callable[[], None]:
        def ask() -> None:
            with wrapper.cursor() as cursor:
                cursor.execute(statement)
                cursor.fetchall()

        return ask

    def work(number_of_queries: int) -> None:
        wrapper = connections["default"]
        ask = ask_with(wrapper)
        if variant.in_threads:
            # Django refuses its own cursors in another thread: the driver's stands in, which flatters this variant.
            wrapper.ensure_connection()
            threads = importlib.import_module("gevent").get_hub().threadpool
            ask_in_thread = ask_with(wrapper.connection)
            for _ in range(number_of_queries):
                threads.apply(ask_in_thread)
        else:
            for _ in range(number_of_queries):
                ask()
        wrapper.close()

    def everything(number_of_queries: int) -> None:
        if not variant.gevent:
            work(number_of_queries)
            return
        gevent = importlib.import_module("gevent")
        share = number_of_queries // GREENLETS
        gevent.joinall([gevent.spawn(work, share) for _ in range(GREENLETS)], raise_error=True)

    everything(GREENLETS * 10)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    everything(count)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_us": cpu_s / count * 1e6, "wall_us": seconds / count * 1e6}


def compare(rounds: int) -> list[dict[str, Any]]:
    """Measure every variant and statement `rounds` times in turns; returns the least of each."""
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for kind in STATEMENTS:
            for key in VARIANTS:
                command = [sys.executable, "-m", "bench.mysql_backend", "--one", key, kind]
                output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
                samples.setdefault((kind, key), []).append(json.loads(output.splitlines()[-1]))
    return [
        {
            "statement": kind,
            "variant": key,
            **asdict(VARIANTS[key]),
            "cpu_us": round(min(sample["cpu_us"] for sample in measured), 1),
            "wall_us": round(min(sample["wall_us"] for sample in measured), 1),
        }
        for (kind, key), measured in samples.items()
    ]


def main() -> None:
    """Compare, print a table, write the result; `--one` measures one variant in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "STATEMENT"))
    arguments = parser.parse_args()
    if arguments.one:
        key, kind = arguments.one
        print(json.dumps(measure(VARIANTS[key], STATEMENTS[kind], QUERIES[kind])), flush=True)
        os._exit(0)
    rows = compare(arguments.rounds)
    print(f"{'statement':22}{'way':40}{'CPU us/query':>14}{'wall us/query':>15}")
    for row in rows:
        print(f"{row['statement']:22}{row['name']:40}{row['cpu_us']:>14}{row['wall_us']:>15}")
    machine = importlib.import_module("bench.machine").machine()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"greenlets": GREENLETS, "machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
