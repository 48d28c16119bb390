"""Health checks: is this process alive, and can the system serve.

`ready` is told to load balancers and the public and names nothing; the staff's port names each dependency.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, Literal

import redis
from django.conf import settings
from django.db import connections
from django.db.utils import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse

Status = Literal["ok", "degraded", "down"]
PROBE_TIMEOUT_S: Final = 2.0
FRESH_FOR_S: Final = 1.0
_NO_STORE: Final = {"Cache-Control": "no-store"}


class DependencyProbe:
    """Asks every dependency at once and remembers the answers for a second.

    Concurrency: one caller asks, the others wait for its answer; a dependency that hangs counts as unreachable after
    `PROBE_TIMEOUT_S` and delays no later caller by more than that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at_s = float("-inf")
        self._reachable: Mapping[str, bool] = {}

    def reachable(self) -> Mapping[str, bool]:
        """Return each dependency's name and whether it answers."""
        with self._lock:
            if time.monotonic() - self._asked_at_s > FRESH_FOR_S:
                self._reachable = _ask_all()
                self._asked_at_s = time.monotonic()
            return self._reachable


def status_of(reachable: Mapping[str, bool]) -> Status:
    """Return what the dependencies add up to: without any database nothing can be served at all."""
    if all(reachable.values()):
        return "ok"
    databases = [up for name, up in reachable.items() if name in settings.DATABASES]
    return "degraded" if any(databases) else "down"


_probe: Final = DependencyProbe()


def live(request: HttpRequest) -> HttpResponse:
    """Answer as long as the process can."""
    return JsonResponse({"status": "ok"}, headers=_NO_STORE)


def ready(request: HttpRequest) -> HttpResponse:
    """Answer whether the system can serve; 503 only when it cannot at all."""
    status = status_of(_probe.reachable())
    return JsonResponse({"status": status}, status=503 if status == "down" else 200, headers=_NO_STORE)


def ready_in_detail(request: HttpRequest) -> HttpResponse:
    """Name each dependency; on the staff's port only."""
    reachable = _probe.reachable()
    dependencies = {name: "up" if up else "down" for name, up in reachable.items()}
    return JsonResponse({"status": status_of(reachable), "dependencies": dependencies}, headers=_NO_STORE)


def _ask_all() -> dict[str, bool]:
    questions = {alias: (_ask_database, alias) for alias in settings.DATABASES} | {
        "redis-durable": (_ask_redis, settings.REDIS_DURABLE_URL),
        "redis-cache": (_ask_redis, settings.REDIS_CACHE_URL),
    }
    executor = ThreadPoolExecutor(max_workers=len(questions), thread_name_prefix="health")
    try:
        asked = {name: executor.submit(ask, where) for name, (ask, where) in questions.items()}
        wait(asked.values(), timeout=PROBE_TIMEOUT_S)
        return {name: answer.done() and answer.result() for name, answer in asked.items()}
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _ask_database(alias: str) -> bool:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return bool(cursor.fetchone())
    except DatabaseError:
        return False
    finally:
        connection.close()


def _ask_redis(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
