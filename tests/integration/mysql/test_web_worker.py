"""A real gunicorn with lean workers over the backend: what the clients of one worker see."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.mysql.conftest import ROOT
from tests.integration.mysql.servers import free_port

IDLE_CLIENTS = 2000


@pytest.fixture
def start_worker() -> Iterator[Callable[..., int]]:
    """Start gunicorn with one lean worker over the tiny site; returns its port."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(**databases: Any) -> int:
        port = free_port()
        databases.setdefault("default", next(iter(databases.values())))
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-k",
            "infra.http.worker.LeanWorker",
            "-w",
            "1",
            "--worker-connections",
            "4000",
        ]
        command += ["--keep-alive", "60", "--backlog", "2048", "--log-level", "warning", "-b", f"127.0.0.1:{port}"]
        environment = {**os.environ, "FLOODGATE_TEST_DATABASES": json.dumps(databases), "PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen([*command, "tests.integration.mysql.wsgi"], cwd=ROOT, env=environment))
        deadline = time.monotonic() + 30
        while True:
            try:
                assert get(port, "/static") == (200, "no database")
            except OSError:
                assert time.monotonic() < deadline, "gunicorn does not serve"
                time.sleep(0.05)
            else:
                return port

    yield start
    for process in processes:
        process.send_signal(signal.SIGQUIT)  # at once, its worker included; a killed one would leave that behind
        process.wait(timeout=20)


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def timed_get(port: int, path: str) -> tuple[float, int, str]:
    """Seconds, status and body."""
    began = time.monotonic()
    status, body = get(port, path)
    return time.monotonic() - began, status, body


def test_ten_slow_requests_at_once_take_as_long_as_one(server, start_worker):
    port = start_worker(default=server.settings())
    get(port, "/quick/default")

    began = time.monotonic()
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda _: get(port, "/slow/default"), range(10)))

    assert answers == [(200, "slept")] * 10
    assert time.monotonic() - began < 0.9


def test_two_thousand_idle_clients_hold_no_more_than_the_pool(server, start_worker):
    port = start_worker(default=server.settings(size=4, wait_s=10))
    request = b"GET /quick/default HTTP/1.1\r\nHost: test\r\n\r\n"

    clients = []
    try:
        for _ in range(IDLE_CLIENTS // 50):
            batch = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(50)]
            clients += batch
            for client in batch:
                client.sendall(request)
            for client in batch:
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
        held = server.client_count()
        assert get(port, "/quick/default") == (200, "1")
    finally:
        for client in clients:
            client.close()

    assert 1 <= held <= 4


def test_a_full_pool_answers_503(server, start_worker):
    port = start_worker(default=server.settings(size=2, wait_s=0.2))
    get(port, "/quick/default")

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: timed_get(port, "/slow/default"), range(8)))

    served = [answer for answer in answers if answer[1] == 200]
    refused = [answer for answer in answers if answer[1] == 503]
    assert len(served) == 2
    assert len(refused) == 6
    assert {body for _, _, body in refused} == {"overloaded"}
    assert max(seconds for seconds, _, _ in refused) < 0.5
    assert get(port, "/slow/default") == (200, "slept")


def test_a_client_that_hangs_up_in_mid_query_leaves_the_others_their_own_answers(server, start_worker):
    port = start_worker(default=server.settings(size=3, wait_s=5))
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow/default HTTP/1.1\r\nHost: test\r\n\r\n")

    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: get(port, "/quick/default"), range(20)))

    assert answers == [(200, "1")] * 20


def test_a_frozen_servers_users_get_503_and_the_other_servers_users_their_answers(servers, start_worker):
    first, second = servers
    port = start_worker(default=first.settings(connect_timeout_s=1), other=second.settings())
    for alias in ("default", "other"):
        assert get(port, f"/quick/{alias}") == (200, "1")
    answers: dict[str, list[tuple[float, int, str]]] = {"default": [], "other": []}
    over = threading.Event()

    def use(alias: str) -> None:
        while not over.is_set():
            answers[alias].append(timed_get(port, f"/quick/{alias}"))
            time.sleep(0.02)

    first.freeze()
    with ThreadPoolExecutor(6) as clients:
        uses = [clients.submit(use, alias) for alias in ("default", "other") for _ in range(3)]
        time.sleep(5)
        over.set()
        for each in uses:
            each.result()
    first.thaw()
    thawed_at = time.monotonic()
    while get(port, "/quick/default") != (200, "1"):
        assert time.monotonic() - thawed_at < 5
        time.sleep(0.05)

    assert {(status, body) for _, status, body in answers["default"]} == {(503, "shard_unavailable")}
    seconds = sorted(seconds for seconds, _, _ in answers["default"])
    assert seconds[-1] < 3.6
    assert seconds[len(seconds) // 2] < 0.1, "most are refused at once"
    assert {(status, body) for _, status, body in answers["other"]} == {(200, "1")}
    assert max(seconds for seconds, _, _ in answers["other"]) < 0.5
    assert time.monotonic() - thawed_at < 5
