"""gunicorn's master with reloads that leave no gap: ``python -m infra.http.server OPTIONS config.wsgi``.

On HUP gunicorn starts new workers and tells the old ones to end at once, seconds before the new ones have imported the
application; whoever asks in between waits in the backlog. And one worker that cannot boot ends the whole server. Here a
worker is told to end only when another one serves in its place. Everything else is gunicorn's, its options included.
"""

import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as its master sees it: `age` rises with each worker, one that `is_leaving` has been told to end."""

    process_id: int
    age: int
    is_ready: bool
    is_leaving: bool = False


def workers_to_end(workers: Iterable[WorkerState], *, wanted: int, replaced_age: int) -> list[WorkerState]:
    """Return who can be told to end now, so that `wanted` workers that are ready stay where there are so many.

    Those of an age up to `replaced_age` shall be replaced. One of them that has not booted yet serves nobody.
    """
    staying = [worker for worker in workers if not worker.is_leaving]
    useless = [worker for worker in staying if not worker.is_ready and worker.age <= replaced_age]
    ready = sorted((worker for worker in staying if worker.is_ready), key=lambda worker: worker.age)
    return useless + ready[: max(0, len(ready) - wanted)]


def count_to_spawn(workers: Iterable[WorkerState], *, wanted: int, replaced_age: int) -> int:
    """Return how many workers to start now: as many as are missing, but replace them one by one.

    More than one boot at a time would take the processor from those that serve.
    """
    staying = [worker for worker in workers if not worker.is_leaving]
    missing = wanted - sum(worker.age > replaced_age for worker in staying)
    return max(0, min(missing, wanted + 1 - len(staying)))


class RollingArbiter(Arbiter):
    """A master that replaces its workers one by one, each when the next one is ready.

    A worker is ready with its first heartbeat: gunicorn's workers send it when they begin to accept. One that fails to
    boot is tried again after `boot_retry_s` (seconds, as below), and one that takes longer than `boot_timeout_s` is
    killed, while those that serve go on; only when nobody serves does gunicorn give up. An `on_starting` hook may set
    both.
    """

    boot_retry_s: float = 5
    boot_timeout_s: float = 120

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.WORKERS: dict[int, Any] = {}
        # sys.argv does not tell that this is a module, which a new master (USR2) has to know.
        self.START_CTX["args"] = list(sys.orig_argv)
        self._replaced_age = 0
        self._spawn_again_at = 0.0
        self._is_reloading = False
        self._booting_since: dict[int, float] = {}
        self._leaving: set[int] = set()

    def reload(self) -> None:
        """Read the configuration again, and have every worker replaced by one that reads the code again.

        With a configuration that cannot be read, everything stays as it is.
        """
        # Out of gunicorn's sight, or it would wait for their end here.
        workers, self.WORKERS = self.WORKERS, {}
        self._is_reloading = True
        try:
            super().reload()
        except UnreadableConfiguration:
            self.log.exception("The configuration cannot be read; the workers that serve go on with the previous one.")
        else:
            self._replaced_age = self.worker_age
            self._spawn_again_at = 0.0
        finally:
            self.WORKERS = workers
            self._is_reloading = False
        self.manage_workers()

    def spawn_worker(self) -> int | None:
        """Start a worker; returns its process id. While reloading, `manage_workers` decides when to."""
        if self._is_reloading:
            return None
        process_id: int = super().spawn_worker()
        self._booting_since[process_id] = time.monotonic()
        return process_id

    def manage_workers(self) -> None:
        """Start and end workers as far as that leaves enough that are ready. Called at least once a second."""
        if self._is_reloading:
            return
        self._forget_the_gone()
        for state in workers_to_end(self._states(), wanted=self.num_workers, replaced_age=self._replaced_age):
            self.kill_worker(state.process_id, signal.SIGTERM)
        if time.monotonic() >= self._spawn_again_at:
            missing = count_to_spawn(self._states(), wanted=self.num_workers, replaced_age=self._replaced_age)
            for _ in range(missing):
                self.spawn_worker()

    def kill_worker(self, pid: int, sig: int) -> None:
        """Send a worker a signal. One that boots would lose it, and serves nobody: it is killed instead of told."""
        if sig in {signal.SIGTERM, signal.SIGQUIT}:
            self._leaving.add(pid)
            if not self._is_ready(pid):
                self.log.info("Worker (pid:%s) has not booted yet and is killed.", pid)
                sig = signal.SIGKILL
        super().kill_worker(pid, sig)

    def murder_workers(self) -> None:
        """Kill workers whose heartbeat has stopped, or never began."""
        super().murder_workers()
        for pid in [*self.WORKERS]:
            if not self._is_ready(pid) and time.monotonic() - self._booting_since[pid] > self.boot_timeout_s:
                self.log.critical("Worker (pid:%s) has not booted within %s s.", pid, self.boot_timeout_s)
                super().kill_worker(pid, signal.SIGKILL)

    def reap_workers(self) -> None:
        """Take note of workers that have ended. Raises HaltServer if one could not boot and nobody serves."""
        booting = {pid for pid in self.WORKERS if pid not in self._leaving and not self._is_ready(pid)}
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                if not any(state.is_ready and not state.is_leaving for state in self._states()):
                    raise
            else:
                break
        if failed := booting - self.WORKERS.keys():
            self._spawn_again_at = time.monotonic() + self.boot_retry_s
            self.log.error("Workers %s did not boot; those that serve go on.", sorted(failed))

    def _states(self) -> list[WorkerState]:
        return [
            WorkerState(pid, worker.age, self._is_ready(pid), pid in self._leaving)
            for pid, worker in self.WORKERS.items()
        ]

    def _is_ready(self, pid: int) -> bool:
        """Whether a worker has sent its first heartbeat."""
        # A heartbeat sets the time of the worker's file to the monotonic clock; until then it is that of its making.
        if pid in self._booting_since and self.WORKERS[pid].tmp.last_update() <= time.monotonic():
            del self._booting_since[pid]
        return pid not in self._booting_since

    def _forget_the_gone(self) -> None:
        self._leaving &= self.WORKERS.keys()
        for pid in self._booting_since.keys() - self.WORKERS.keys():
            del self._booting_since[pid]


class UnreadableConfiguration(Exception):
    """The configuration was changed into something that gunicorn cannot read."""


class _RollingApplication(BaseApplication):
    """An application under a `RollingArbiter`."""

    cfg: Any

    def reload(self) -> None:
        """Read the configuration again. Raises UnreadableConfiguration, and keeps the previous one then."""
        serving = self.cfg
        try:
            super().reload()
        except SystemExit as error:
            self.cfg = serving
            raise UnreadableConfiguration from error

    def run(self) -> None:
        """Serve until told to end."""
        RollingArbiter(self).run()


class Server(WSGIApplication, _RollingApplication):
    """gunicorn's command line, over the rolling master."""


if __name__ == "__main__":
    Server("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn").run()
