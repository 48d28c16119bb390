"""A reload under load: no request is lost, none waits for a worker that boots, and a broken worker harms nobody."""

import os
import signal
import threading
import time

import pytest

from tests.integration.http.clients import LEAN, Client, Gunicorn, exchange, gunicorn, wait_for_end

PROCESS = b"GET /process HTTP/1.1\r\nHost: test\r\n\r\n"
CLOSING = b"GET /process HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
GUNICORNS_OWN = "gunicorn"
THINK_S = 0.1
# What gunicorn gives a worker that has been told to end (`--graceful-timeout` in `clients`).
GRACE_S = 12

# What importing the application takes, but for the first worker: no test needs to wait for that.
BOOT_S = 2.0
SLOW_BOOT = f"""
import time

def post_worker_init(worker):
    if worker.age > 1:
        time.sleep({BOOT_S})
"""


class _Load:
    """Clients that think between requests, and keep a connection until they are told to close it."""

    def __init__(self, port: int, *, clients: int, request: bytes) -> None:
        self.lost: list[str] = []
        self.served: list[bytes] = []
        self.longest_wait_s = 0.0
        self._port, self._request = port, request
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._use) for _ in range(clients)]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _use(self) -> None:
        client = Client(self._port)
        try:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    client.send(self._request)
                    answer = client.answer()
                except OSError as error:
                    self.lost.append(repr(error))
                    answer = None
                else:
                    if answer is None:
                        self.lost.append("closed instead of answered")
                self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - began)
                if answer is None or answer.headers["connection"] == "close":
                    client.__exit__()
                    client = Client(self._port)
                if answer is not None:
                    self.served.append(answer.body)
                time.sleep(THINK_S)
        finally:
            client.__exit__()


def _reload(server: Gunicorn) -> None:
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    for process_id in before:
        wait_for_end(process_id, seconds=15)


def test_a_reload_under_load_loses_no_request_and_leaves_no_gap(tmp_path):
    with (
        gunicorn(tmp_path, LEAN, config=SLOW_BOOT) as server,
        _Load(server.port, clients=8, request=PROCESS) as keeping,
        _Load(server.port, clients=8, request=CLOSING) as closing,
    ):
        time.sleep(0.2)
        _reload(server)
        _reload(server)
        time.sleep(0.2)

    for load in (keeping, closing):
        assert load.lost == []
        assert len(set(load.served)) == 3
        assert len(load.served) > 100
        assert load.longest_wait_s < BOOT_S / 2


def test_gunicorns_own_reload_has_clients_wait_for_the_new_worker_to_boot(tmp_path):
    """The negative control: the old worker is told to end before the new one has loaded anything."""
    with (
        gunicorn(tmp_path, LEAN, config=SLOW_BOOT, server_module=GUNICORNS_OWN) as server,
        _Load(server.port, clients=8, request=PROCESS) as load,
    ):
        time.sleep(0.2)
        _reload(server)

    assert load.longest_wait_s > BOOT_S / 2


def test_without_patience_for_idle_connections_a_reload_loses_requests(tmp_path):
    """The negative control: connections that think are closed at once, under requests on their way.

    Whether one is on its way just then is chance, about one in two with each reload.
    """
    with (
        gunicorn(tmp_path, LEAN, bounds={"drain_idle_s": 0}) as server,
        _Load(server.port, clients=16, request=PROCESS) as load,
    ):
        time.sleep(0.2)
        for _ in range(30):
            _reload(server)
            if load.lost:
                break

    assert load.lost != []


@pytest.mark.parametrize(
    ("options", "is_served"), [((), True), (("--reuse-port",), False)], ids=["one socket", "reuse_port"]
)
def test_a_connection_in_the_backlog_outlives_its_worker_on_a_shared_socket_only(tmp_path, options, is_served):
    with (
        gunicorn(tmp_path, LEAN, "--worker-connections", "1", *options, bounds={"drain_idle_s": 0}) as server,
        Client(server.port) as only,
        Client(server.port) as waiting,
    ):
        [old] = server.workers()
        only.send(PROCESS)
        assert only.answer() is not None
        waiting.send(PROCESS)
        server.process.send_signal(signal.SIGHUP)
        answer = waiting.answer()
        wait_for_end(old, seconds=15)

    if is_served:
        assert answer is not None
        assert answer.body != str(old).encode()
    else:
        assert answer is None


# -- workers that do not boot -------------------------------------------------------------------------------

BREAKS = """
import time
from pathlib import Path

_BROKEN = Path(__file__).with_name("broken")

def on_starting(server):
    server.boot_retry_s = 0.2

def on_reload(server):
    server.boot_timeout_s = {boot_timeout_s} if _BROKEN.exists() else 60

def post_worker_init(worker):
    if _BROKEN.exists():
        {how}
"""
RAISES = BREAKS.format(how='raise RuntimeError("the new code is broken")', boot_timeout_s=60)
HANGS = BREAKS.format(how="time.sleep(60)", boot_timeout_s=1)


def _served_by(server: Gunicorn) -> int:
    answer, _ = exchange(server.port, CLOSING)
    assert answer is not None
    return int(answer.body)


@pytest.mark.parametrize(
    ("config", "told"), [(RAISES, "did not boot"), (HANGS, "has not booted within")], ids=["raises", "hangs"]
)
def test_while_new_workers_do_not_boot_the_old_one_serves(tmp_path, config, told):
    with gunicorn(tmp_path, LEAN, config=config) as server:
        [old] = server.workers()
        (tmp_path / "broken").touch()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(told)
        assert _served_by(server) == old

        (tmp_path / "broken").unlink()
        if config == HANGS:
            server.process.send_signal(signal.SIGHUP)
        wait_for_end(old, seconds=30)
        assert _served_by(server) != old


def test_gunicorns_own_master_ends_with_the_first_worker_that_does_not_boot(tmp_path):
    """The negative control."""
    with gunicorn(tmp_path, LEAN, config=RAISES, server_module=GUNICORNS_OWN) as server:
        (tmp_path / "broken").touch()
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(timeout=30) == 3


def test_a_configuration_that_cannot_be_read_changes_nothing(tmp_path):
    with gunicorn(tmp_path, LEAN, "--timeout", "3") as server:
        [old] = server.workers()
        (tmp_path / "gunicorn.conf.py").write_text("this is no Python")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("The configuration cannot be read")
        assert _served_by(server) == old
        assert server.workers() == {old}

        # Workers that are killed or stopped are replaced as ever.
        for fault in (signal.SIGKILL, signal.SIGSTOP):
            [old] = server.workers()
            os.kill(old, fault)
            wait_for_end(old, seconds=15)
            assert _served_by(server) != old


def test_a_worker_that_boots_does_not_hold_up_the_end(tmp_path):
    with gunicorn(tmp_path, LEAN, config=HANGS) as server:
        (tmp_path / "broken").touch()
        [old] = server.workers()
        os.kill(old, signal.SIGKILL)
        wait_for_end(old, seconds=15)
        while server.log().count("Booting worker") < 2:
            time.sleep(0.05)
        began = time.monotonic()
        server.process.terminate()
        server.process.wait(timeout=30)

    assert time.monotonic() - began < GRACE_S
