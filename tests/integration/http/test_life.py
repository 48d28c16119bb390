"""A worker's life: what it serves, its hooks, and its end."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.http.clients import LEAN, STOCK, Answer, Client, Gunicorn, exchange, gunicorn, wait_for_end

PROCESS = b"GET /process HTTP/1.1\r\nHost: test\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def own(tmp_path) -> Iterator[Gunicorn]:
    """A lean worker of the test's own, to be ended."""
    with gunicorn(tmp_path, LEAN) as server:
        yield server


def _answer(client: Client, request: bytes = PROCESS) -> Answer:
    client.send(request)
    answer = client.answer()
    assert answer is not None
    return answer


def test_a_draining_worker_finishes_what_is_under_way_and_says_close(own):
    [worker] = own.workers()
    with Client(own.port) as busy, Client(own.port) as waiting, Client(own.port) as idle:
        assert _answer(waiting).headers["connection"] == "keep-alive"
        _answer(idle)
        busy.send(SLOW)
        time.sleep(0.3)
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.3)

        told = _answer(waiting)
        finished = busy.answer()

        assert told.body == str(worker).encode()
        assert told.headers["connection"] == "close"
        assert waiting.is_closed()
        assert finished is not None
        assert (finished.status, finished.headers["connection"]) == (200, "close")
        assert idle.is_closed()
    wait_for_end(worker, seconds=8)
    assert "graceful timeout" not in own.log()


def test_a_worker_is_replaced_after_its_most_requests(tmp_path):
    with gunicorn(tmp_path, LEAN, "--max-requests", "20") as server:
        [first] = server.workers()
        with Client(server.port) as client:
            answers = []
            while not answers or answers[-1].headers["connection"] != "close":
                answers.append(_answer(client))
                assert len(answers) < 30
        wait_for_end(first, seconds=8)
        deadline = time.monotonic() + 10
        while (answer := exchange(server.port, PROCESS)[0]) is None or answer.body == str(first).encode():
            assert time.monotonic() < deadline

    assert {answer.body for answer in answers} == {str(first).encode()}


def test_more_connections_than_the_worker_takes_wait_for_their_turn(tmp_path):
    with (
        gunicorn(tmp_path, LEAN, "--worker-connections", "2") as server,
        Client(server.port) as first,
        Client(server.port) as second,
        Client(server.port) as third,
    ):
        _answer(first)
        _answer(second)
        third.send(PROCESS)
        third.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            third.socket.recv(1)
        third.socket.settimeout(10)
        second.__exit__()
        assert third.socket.recv(65536).startswith(b"HTTP/1.1 200")


def test_every_listener_is_served(lean):
    for port in (lean.port, lean.other_port):
        answer, stays_open = exchange(port, PROCESS)
        assert answer is not None
        assert answer.status == 200
        assert stays_open


HOOKS = """
def pre_request(worker, req):
    worker.log.info("before %s %s %s", req.method, req.path, req.version)

def post_request(worker, req, environ, resp):
    worker.log.info("behind %s %s %s %s", req.uri, environ["REQUEST_METHOD"], resp.status, dict(req.headers)["HOST"])
"""


@pytest.mark.parametrize("kind", [LEAN, STOCK], ids=["lean", "stock"])
def test_hooks_around_a_request_are_called(tmp_path, kind):
    with gunicorn(tmp_path, kind, "--graceful-timeout", "1", config=HOOKS) as server:
        exchange(server.port, b"GET /fixed?a HTTP/1.1\r\nHost: test\r\n\r\n")
        server.wait_for("before GET /fixed (1, 1)")
        server.wait_for("behind /fixed?a GET 201 Created test")
        if kind == LEAN:
            exchange(server.port, b"GET /lane?a HTTP/1.1\r\nHost: test\r\n\r\n")
            server.wait_for("behind /lane?a GET 201 Created test")


def test_a_worker_that_cannot_do_what_is_asked_does_not_boot(tmp_path):
    with (
        pytest.raises(AssertionError, match="plain HTTP only"),
        gunicorn(tmp_path, LEAN, "--proxy-protocol", "auto"),
    ):
        pass
