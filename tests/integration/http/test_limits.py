"""Clients that are slow, silent, deaf or many."""

import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.http.clients import LEAN, Answer, Client, Gunicorn, exchange, gunicorn

REQUEST = b"GET /204 HTTP/1.1\r\nHost: test\r\n\r\n"
# The worker looks at its connections once a second.
LOOKS_EVERY_S = 1.0


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A lean worker that waits no longer than a test can."""
    bounds = {"head_timeout_s": 1, "body_timeout_s": 1, "send_timeout_s": 1, "linger_timeout_s": 1}
    with gunicorn(tmp_path_factory.mktemp("hasty"), LEAN, "--keep-alive", "2", bounds=bounds) as server:
        yield server


DRIPPING = {
    "headers": (b"GET /echo HTTP/1.1\r\n", b"X-Slow: " + b"a" * 200),
    "request line": (b"", b"GET /" + b"a" * 200),
    "body": (b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 500\r\n\r\n", b"a" * 200),
    "chunks": (b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 50),
}


def _drip(port: int, beginning: bytes, rest: bytes) -> tuple[float, Answer | None, bool]:
    """Send the rest a byte at a time; returns the seconds until the server answered, its answer, and if it closed."""
    with Client(port) as client:
        client.send(beginning)
        began = time.monotonic()
        for at in range(len(rest)):
            with contextlib.suppress(OSError):
                client.send(rest[at : at + 1])
            if select.select([client.socket], [], [], 0.2)[0]:
                break
        return time.monotonic() - began, client.answer(), client.is_closed()


def test_a_client_that_drips_its_request_is_told_and_cut_off(hasty):
    with ThreadPoolExecutor(len(DRIPPING)) as clients:
        told = list(clients.map(lambda name: _drip(hasty.port, *DRIPPING[name]), DRIPPING))

    for seconds, answer, is_closed in told:
        assert seconds < 1 + LOOKS_EVERY_S + 1
        assert answer is not None
        assert (answer.status, answer.json()["code"]) == (408, "request_timeout")
        assert is_closed


def test_a_client_that_sends_in_time_is_served_however_small_its_pieces(hasty):
    raw = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
    answer, stays_open = exchange(hasty.port, *[raw[at : at + 10] for at in range(0, len(raw), 10)])

    assert answer is not None
    assert answer.json()["body"] == "hello"
    assert stays_open


def test_an_idle_connection_is_closed_without_a_word(hasty):
    def seconds_until_closed(sent: bytes) -> float:
        with Client(hasty.port) as client:
            client.send(sent)
            if sent:
                assert client.answer() is not None
            began = time.monotonic()
            assert client.is_closed()
            return time.monotonic() - began

    kinds = [b"", REQUEST, REQUEST + b"\r\n"]  # new, kept alive, kept alive with an empty line behind the request
    with ThreadPoolExecutor(len(kinds)) as clients:
        seconds = list(clients.map(seconds_until_closed, kinds))

    assert min(seconds) > 1.5
    assert max(seconds) < 2 + LOOKS_EVERY_S + 1


def test_a_client_that_does_not_read_its_answer_is_given_up(hasty):
    [worker] = hasty.workers()
    before = _settled_open_files(worker)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", hasty.port))
    with deaf:
        deaf.sendall(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.5)
        assert _open_files(worker) > before
        deadline = time.monotonic() + 1 + LOOKS_EVERY_S + 2
        while _open_files(worker) > before:
            assert time.monotonic() < deadline, "the server still waits for a client that does not read"
            time.sleep(0.1)


def test_a_client_that_reads_slowly_but_steadily_gets_its_whole_answer(hasty):
    """Longer in all than one part's time: 8 MB, at about 4 MB/s."""
    with Client(hasty.port) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        received = 0
        while piece := client.socket.recv(256 * 1024):
            received += len(piece)
            time.sleep(len(piece) / 4_000_000)

    assert received > 8_000_000


def test_a_refusal_is_heard_by_a_client_that_still_sends(lean):
    """Without lingering, the reset that unread bytes cause would overtake the answer."""
    with Client(lean.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 800000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(50):
                client.send(b"a" * 16_000, pause_s=0.002)
        answer = client.answer()

    assert answer is not None
    assert answer.status == 413


def test_slow_clients_hold_up_nobody(hasty):
    slow = [Client(hasty.port) for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.send(b"GET / HTTP/1.1\r\nHost" if number % 2 else b"POST / HTTP/1.1\r\nContent-Length: 5\r\n")
        began = time.monotonic()
        answers = [exchange(hasty.port, REQUEST)[0] for _ in range(20)]
        waited_s = time.monotonic() - began
    finally:
        for client in slow:
            client.socket.close()

    assert all(answer is not None and answer.status == 204 for answer in answers)
    assert waited_s < 2


def test_a_client_that_sends_ahead_without_end_holds_up_nobody(lean):
    over = threading.Event()

    def blast() -> None:
        with Client(lean.port) as client:
            client.socket.settimeout(0.2)
            reader = threading.Thread(target=_swallow, args=(client.socket,), daemon=True)
            reader.start()
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    client.send(REQUEST * 100)

    blaster = threading.Thread(target=blast)
    blaster.start()
    try:
        time.sleep(0.3)
        seconds = []
        for _ in range(10):
            began = time.monotonic()
            assert exchange(lean.port, REQUEST)[0] is not None
            seconds.append(time.monotonic() - began)
    finally:
        over.set()
        blaster.join()

    assert sorted(seconds)[5] < 0.5


def _swallow(source: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            with contextlib.suppress(TimeoutError):
                if not source.recv(1 << 20):
                    return


def test_thousands_of_idle_connections_cost_little_and_hold_up_nobody(lean):
    """10,000, or as many as this process may open."""
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1_000)
    [worker] = lean.workers()
    memory_kb = _memory_kb(worker)
    idle: list[socket.socket] = []
    try:
        deadline = time.monotonic() + 60
        while len(idle) < count:
            idle += [socket.create_connection(("127.0.0.1", lean.port), timeout=10) for _ in range(500)]
            while _open_files(worker) < len(idle):
                assert time.monotonic() < deadline, "the server does not accept them all"
                time.sleep(0.01)
        began = time.monotonic()
        assert exchange(lean.port, REQUEST)[1]
        waited_s = time.monotonic() - began
        grown_kb = _memory_kb(worker) - memory_kb
        # All of them work: none was dropped to make room.
        for connection in idle[:: count // 100]:
            connection.sendall(REQUEST)
            assert connection.recv(4096).startswith(b"HTTP/1.1 204")
    finally:
        for connection in idle:
            connection.close()

    assert waited_s < 1
    assert grown_kb / count < 32


def _open_files(process_id: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())


def _settled_open_files(process_id: int) -> int:
    """Once the connections of tests before are gone."""
    count, earlier = _open_files(process_id), -1
    while count != earlier:
        time.sleep(0.2)
        count, earlier = _open_files(process_id), count
    return count


def _memory_kb(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])
