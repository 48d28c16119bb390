"""Two servers that a test may stop and kill, and a way to run a case in a gevent-patched process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.mysql.servers import ThrowAwayServer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThrowAwayServer, ThrowAwayServer]]:
    folder = tmp_path_factory.mktemp("servers")
    first, second = ThrowAwayServer(folder / "first"), ThrowAwayServer(folder / "second")
    first.install()
    second.copy_of(first)
    try:
        first.start()
        second.start()
        yield first, second
    finally:
        first.kill()
        second.kill()


@pytest.fixture
def servers(_servers: tuple[ThrowAwayServer, ThrowAwayServer]) -> Iterator[tuple[ThrowAwayServer, ThrowAwayServer]]:
    """Two running servers with an empty table `notes` each."""
    for server in _servers:
        server.ask("DROP TABLE IF EXISTS notes")
        server.ask("CREATE TABLE notes (id BIGINT PRIMARY KEY, text VARCHAR(50) NOT NULL) ENGINE=InnoDB")
    yield _servers
    for server in _servers:
        server.thaw()


@pytest.fixture
def server(servers: tuple[ThrowAwayServer, ThrowAwayServer]) -> ThrowAwayServer:
    """The first of the two."""
    return servers[0]


Program = Callable[..., Any]


class RunningCase:
    """A case under way in another process; it says `ready` and waits for `go` where it calls `rendezvous`."""

    def __init__(self, case: str, databases: dict[str, Any], *, patched: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.mysql.program", case, json.dumps(databases)],
            cwd=ROOT,
            env={**os.environ, "FLOODGATE_TEST_GEVENT": "1" if patched else "", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until the case has come to its rendezvous."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            self._process.kill()
            raise AssertionError(line + self._process.communicate()[1])

    def go(self) -> None:
        """Let the case go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """What the case returned; fails with its error output if it raised."""
        output, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors[-4000:]
        return json.loads(output.splitlines()[-1])


@pytest.fixture
def start_case() -> Callable[..., RunningCase]:
    """Start a case of `cases.py` in a process of its own, gevent-patched unless told otherwise."""

    def start(case: str, *, patched: bool = True, **databases: Any) -> RunningCase:
        databases.setdefault("default", next(iter(databases.values())))
        return RunningCase(case, databases, patched=patched)

    return start


@pytest.fixture
def run_case(start_case: Callable[..., RunningCase]) -> Program:
    """Run a case to its end and return what it returned."""

    def run(case: str, *, patched: bool = True, **databases: Any) -> Any:
        return start_case(case, patched=patched, **databases).result()

    return run
