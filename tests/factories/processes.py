"""Processes that tests start and end by their id: a Redis of the test's own, and commands of the project."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
from django.conf import settings


class RedisServer:
    """A durable Redis on a free port, that may be killed, stopped and emptied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, with what it had on disk, and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
            except redis.RedisError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Have it hang: it is there and does not answer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        """Lose everything."""
        self.client.flushall()


def children_of(process_id: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]


class Processes:
    """Commands of the project against the test databases and a Redis of the test's own."""

    def __init__(self, folder: Path, redis_url: str, settings_module: str = "tests.factories.event_settings") -> None:
        self._folder = folder
        metrics = folder / "metrics"
        metrics.mkdir()
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": settings_module,
            "FLOODGATE_DB_PREFIX": f"test_{settings.DB_PREFIX}",
            "FLOODGATE_REDIS_DURABLE_URL": redis_url,
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "PYTHONPATH": str(settings.BASE_DIR),
            # Celery would check the URLs, which need all apps.
            "CELERY_SKIP_CHECKS": "1",
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `python command...` under a name; its output goes to a file of that name."""
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                env=self._environment,
                cwd=settings.BASE_DIR,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._running[name]

    def kill(self, name: str) -> None:
        """Kill -9 a process and its children."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, *, timeout_s: float = 10.0) -> int:
        """Ask a process to end; returns its exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(timeout_s)

    def pid(self, name: str) -> int:
        """Return the id of a process."""
        return self._running[name].pid

    def output(self, name: str) -> str:
        """Return what the processes of a name have written."""
        return (self._folder / f"{name}.log").read_text()

    def kill_all(self) -> None:
        """End everything that was started."""
        for name in list(self._running):
            self.kill(name)
