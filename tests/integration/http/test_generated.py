"""Generated requests at both workers: good ones in every cut, and ones with a byte gone wrong."""

import contextlib
import itertools
import json
import socket

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.http.clients import Answer, Client

_SETTINGS = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_CHUNKED_KEYS = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
_TOKEN = st.text(
    "!#$%&'*+.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-", min_size=1, max_size=12
)
_VALUE = st.text(st.sampled_from([chr(code) for code in (9, *range(32, 127), *range(128, 256))]), max_size=30)
_OWN = {"host", "connection", "content-length", "content-type", "transfer-encoding", "expect", "te", "upgrade"}
_HEADERS = st.lists(
    st.tuples(_TOKEN.filter(lambda name: name.lower() not in _OWN), _VALUE.map(lambda value: value.strip(" \t"))),
    max_size=6,
)
_TARGETS = st.builds(
    "/{}".format, st.text([chr(code) for code in range(33, 127) if chr(code) != "#"], max_size=40)
).filter(lambda target: target.partition("?")[0] not in {"/lane", "/204"})
_METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-OWN"])


@st.composite
def good_requests(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    lines = [f"{draw(_METHODS)} {draw(_TARGETS)} HTTP/{version}", "Host: test"]
    lines += [f"{name}:{draw(st.sampled_from(['', ' ', chr(9)]))}{value}" for name, value in draw(_HEADERS)]
    lines += draw(st.sampled_from([[], [], ["Connection: keep-alive"], ["Connection: close"]]))
    body = b""
    framing = draw(st.sampled_from(["none", "length", "chunked"] if version == "1.1" else ["none", "length"]))
    if framing == "length":
        body = draw(st.binary(max_size=200))
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    elif framing == "chunked":
        chunks = draw(st.lists(st.binary(min_size=1, max_size=60), max_size=4))
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@st.composite
def damaged_requests(draw: st.DrawFn) -> bytes:
    """A good request, with a few bytes put in, taken out or exchanged near each other."""
    request = draw(good_requests())
    at = draw(st.integers(0, len(request) - 1))
    gone = draw(st.integers(0, 2))
    odd = st.sampled_from(
        [b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b"_", b"-", b"\xff", b"\x7f", b"0"]
    )
    return request[:at] + draw(odd) + request[at + gone :]


def _play(port: int, raw: bytes, cuts: list[int], count: int) -> list[Answer | None]:
    """Send the bytes in pieces, then nothing more; returns the answers, None for a connection closed instead."""
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    answers: list[Answer | None] = []
    with Client(port, timeout=5) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start, end in itertools.pairwise(edges):
                client.send(raw[start:end])
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        for _ in range(count):
            answers.append(client.answer())
            if answers[-1] is None:
                break
    return answers


def _told(answer: Answer, *, chunked: bool) -> dict[str, str]:
    told = json.loads(answer.body)
    return {key: value for key, value in told.items() if not chunked or key not in _CHUNKED_KEYS}


@_SETTINGS
@given(requests=st.lists(good_requests(), min_size=1, max_size=3), cuts=st.lists(st.integers(0, 2000), max_size=3))
def test_good_requests_get_the_same_answers_however_they_are_cut(lean, stock, requests, cuts):
    raw = b"".join(requests)
    ours = _play(lean.port, raw, cuts, len(requests) + 1)
    theirs = _play(stock.port, raw, [], len(requests) + 1)

    assert ours[-1] is None
    assert theirs[-1] is None
    assert len(ours) == len(theirs)
    for request, mine, other in zip(requests, ours[:-1], theirs[:-1], strict=False):
        assert mine is not None
        assert other is not None
        assert mine.status == other.status == 200
        chunked = b"\r\nTransfer-Encoding: chunked\r\n" in request
        assert _told(mine, chunked=chunked) == _told(other, chunked=chunked)
        assert mine.headers["connection"] == other.headers["connection"]


@_SETTINGS
@example(raw=b"GET / HTTP/1.1\r\nHost: test\r\nX: y\r\n z\r\n\r\n")
@given(raw=damaged_requests())
def test_the_lean_worker_takes_no_damaged_request_that_the_stock_one_refuses(lean, stock, raw):
    [ours, *_] = _play(lean.port, raw, [], 1)
    [theirs, *_] = _play(stock.port, raw, [], 1)

    assert ours is None or ours.status in {200, 400, 413, 414, 431}
    if ours is not None and ours.status == 200:
        assert theirs is not None
        assert theirs.status == 200
        chunked = b"chunked" in raw
        told, other = _told(ours, chunked=chunked), _told(theirs, chunked=chunked)
        if "://" in told["RAW_URI"]:  # the target's host counts
            told.pop("HTTP_HOST"), other.pop("HTTP_HOST", None)
        assert told == other
