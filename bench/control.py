"""Measures the controls of a run: the same load on servers that do nothing (control_apps.py)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from django.conf import settings

from bench.load import Load
from bench.stack import ROOT

_WARM_S = 2


@dataclass(frozen=True, slots=True)
class Controls:
    """Requests a second: C1 is a stock gunicorn-gevent with fixed bytes, the other the smallest Django view in it."""

    bare_qps: float
    django_qps: float


def measure_controls(load: Callable[[str, float], Load], *, seconds: float) -> Controls:
    """Put a load, a function of URL and seconds, on each of the controls."""
    measured = {}
    for name in ("bare", "django_view"):
        with _server(name) as url:
            load(url, _WARM_S)
            measured[name] = load(url, seconds).per_second
    return Controls(bare_qps=measured["bare"], django_qps=measured["django_view"])


@contextmanager
def _server(name: str) -> Iterator[str]:
    """Run one of the controls on a free port next to the stack's for the length of the block."""
    port = int(settings.STAFF_URL.rsplit(":", 1)[1]) + 88
    command = [
        sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", f"127.0.0.1:{port}",
        "--keep-alive", "75", "--log-level", "warning", f"bench.control_apps:{name}",
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
