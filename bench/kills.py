"""Kills programs of the running stack with SIGKILL at random moments of a run; the supervisor brings them back."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.stack import process_ids

_RUNNING_WITHIN_S = 60
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed once the run's progress has come to `at`; a worker is a random child of the program."""

    at: int
    program: str
    a_worker_of_it: bool = False

    def __str__(self) -> str:
        return f"a {self.program} worker" if self.a_worker_of_it else self.program


def plan(rng: random.Random, *, rounds: int, progress: int, shard_server: str) -> list[Kill]:
    """Return kills at random moments before `progress`.

    Each round has a gunicorn worker, the Celery worker, one of the two Redis and the server of one shard.
    """
    kills = []
    for _ in range(rounds):
        redis = rng.choice(["redis-durable", "redis-cache"])
        for program in ("gunicorn", "celery-worker", redis, shard_server):
            kills.append(Kill(rng.randrange(progress), program, a_worker_of_it=program == "gunicorn"))
    return sorted(kills, key=lambda kill: kill.at)


async def carry_out(kills: Sequence[Kill], *, progress: Callable[[], int], rng: random.Random) -> list[str]:
    """Kill at each one's moment, and return what was killed when. Cancelled when the run is over before."""
    done: list[str] = []
    began_s = time.monotonic()
    for kill in kills:
        while progress() < kill.at:
            await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(_kill, kill, rng)
        done.append(f"{kill} after {time.monotonic() - began_s:.1f} s, at {progress():,} buyers told")
        print(f"    killed {done[-1]}", flush=True)
    return done


def _kill(kill: Kill, rng: random.Random) -> None:
    """Kill the program, or one of its workers, once it runs."""
    deadline_s = time.monotonic() + _RUNNING_WITHIN_S
    while True:
        pid = process_ids().get(kill.program)
        targets = [pid] if pid is not None else []
        if pid is not None and kill.a_worker_of_it:
            targets = _children(pid)
        if targets:
            os.kill(rng.choice(targets), signal.SIGKILL)
            return
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{kill} does not run, {_RUNNING_WITHIN_S} s after it was killed before")
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
