"""gunicorn's configuration for the public API; the staff's site uses it too, with its own address and workers.

gunicorn reads the names of this module as its settings (https://docs.gunicorn.org/en/stable/settings.html). Nothing
here may import what uses sockets or locks: the master would hold them before gevent has made them cooperative.
"""

import ctypes
import gc
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _address(variable: str) -> str:
    return urlsplit(os.environ[variable]).netloc


def _is_on(variable: str) -> bool:
    value = os.environ.get(variable, "off")
    if value not in {"on", "off"}:
        raise ValueError(f"{variable}={value}: say on or off")
    return value == "on"


# The public address, and gunicorn itself beside it for when a proxy stands in front of the public one.
bind = [_address("FLOODGATE_PUBLIC_URL"), _address("FLOODGATE_INTERNAL_URL")]
backlog = 2048
# A socket for each worker: those who wait in a worker's own backlog are reset when it ends (docs/performance.md).
reuse_port = _is_on("FLOODGATE_REUSE_PORT")

# "stock" is gunicorn's own gevent worker, for comparison and as a way back.
worker_class = {
    "lean": "infra.http.worker.LeanWorker",
    "stock": "infra.http.stock_worker.ProblemGeventWorker",
}[os.environ.get("FLOODGATE_WORKER", "lean")]
workers = int(os.environ.get("FLOODGATE_WORKERS", "2"))
# Clients that a worker keeps on each address at once, idle ones included; more wait in the backlog. Two workers hold
# 10,000 idle ones on one address between them, however unevenly they share, and stay below 20,000 open files each.
worker_connections = int(os.environ.get("FLOODGATE_WORKER_CONNECTIONS", "6000"))
keepalive = int(os.environ.get("FLOODGATE_KEEPALIVE_S", "75"))
# Whether each worker is bound to a processor of its own.
_is_bound_to_cpu = _is_on("FLOODGATE_CPU_AFFINITY")

# A worker whose event loop has stood still for so long is killed and replaced; its clients wait for that. Heartbeats
# come once a second; on two cores at a load average of 28 the longest gap was 1.2 s.
timeout = 10
# Every answer comes within 10 s; idle connections are closed after this when a worker ends.
graceful_timeout = 12

# What the parser takes; what goes beyond is refused with 414 or 431.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

# X-Forwarded-For is judged by the application, against its list of proxies, and never by gunicorn.
forwarded_allow_ips = ""

errorlog = "-"
loglevel = "info"
accesslog = os.environ.get("FLOODGATE_ACCESS_LOG") or None
# All instances of a user would share one control socket; the supervisor controls this process.
control_socket_disable = True
# Heartbeats are file times; on a disk that is busy with durable commits they could block a worker.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def on_starting(server: Any) -> None:
    """Before the first worker: forget live gauges of processes that a kill ended."""
    _forget_dead_gauges()


def pre_fork(server: Any, worker: Any) -> None:
    """In the master: choose the new worker's processor, one that has the fewest workers."""
    taken = Counter(other.cpu for other in server.WORKERS.values())
    worker.cpu = min(sorted(os.sched_getaffinity(0)), key=lambda cpu: taken[cpu])


def post_fork(server: Any, worker: Any) -> None:
    """In a new worker: die with the master, and keep to the processor that was chosen.

    gunicorn's worker looks for its parent every second, but one that is busy or stopped would go on holding the port,
    so that the next master could not listen for as long.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_bound_to_cpu and server.num_workers > 1:
        os.sched_setaffinity(0, {worker.cpu})


def post_worker_init(worker: Any) -> None:
    """In a worker that has loaded the application: keep the garbage collector from walking through it again and again.

    What is loaded stays, and what a request leaves behind is rarely a cycle: the collector looks at the young objects
    every fifty thousand instead of every 700, since those of the requests under way would only be looked at in vain.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def child_exit(server: Any, worker: Any) -> None:
    """After a worker's end: its live gauges must not be added up any longer."""
    _forget_dead_gauges()


def _forget_dead_gauges() -> None:
    """Delete the live gauges of processes that are gone.

    What ``prometheus_client.multiprocess.mark_process_dead`` does, for every process of the instance, since they all
    write into one folder. Counters stay: deleting one would look like a reset of the sum. The folder is emptied when
    the whole instance starts.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        process_id = path.stem.rpartition("_")[2]
        if not Path("/proc", process_id).exists():
            with suppress(FileNotFoundError):
                path.unlink()
