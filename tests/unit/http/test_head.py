"""Heads of requests; the corpus of tests/integration/http plays many more at a running server."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import Code
from infra.http.head import RequestHead, check_beginning
from infra.http.refusals import Refused


def _parse(*lines: str, first: str = "POST /a%20b?c=%20d HTTP/1.1", host: str = "Host: test") -> RequestHead:
    raw = "\r\n".join([first, host, *lines, "", ""]).encode("latin-1")
    return RequestHead(raw, field_limit=100, field_size_limit=8190, line_limit=8190)


def test_a_head_says_what_came():
    head = _parse("Content-Length: 5", "X-Two: 1", "x-two: 2", "Expect: 100-continue")

    assert (head.method, head.target, head.path, head.query) == ("POST", b"/a%20b?c=%20d", "/a b", b"c=%20d")
    assert head.headers[b"x-two"] == b"1,2"
    assert (head.length, head.keeps_alive, head.expects_continue) == (5, True, True)


def test_a_path_is_one_character_a_byte():
    assert _parse(first="GET /caf%C3%A9 HTTP/1.1").path == "/caf\xc3\xa9"


@pytest.mark.parametrize(
    ("first", "line", "keeps_alive"),
    [
        ("GET / HTTP/1.1", "X: y", True),
        ("GET / HTTP/1.1", "Connection: Close", False),
        ("GET / HTTP/1.1", "Connection: keep-alive, close", False),
        ("GET / HTTP/1.1", "Connection: x-close", True),
        ("GET / HTTP/1.0", "X: y", False),
        ("GET / HTTP/1.0", "Connection: Keep-Alive", True),
        ("GET / HTTP/1.0", "Connection: keep-alive, close", False),
    ],
)
def test_who_closes_the_connection(first, line, keeps_alive):
    assert _parse(line, first=first).keeps_alive is keeps_alive


def test_a_chunked_body_has_no_length():
    assert _parse("Transfer-Encoding: Chunked").length is None


def test_made_up_names_do_not_fill_the_memory_and_are_understood_all_the_same():
    for number in range(3000):
        assert _parse(f"X-Made-Up-{number}: y").headers[b"x-made-up-%d" % number] == b"y"


def test_names_with_an_underscore_are_refused_each_time():
    for _ in range(2):
        with pytest.raises(Refused, match="underscore"):
            _parse("X_Forwarded_For: 1.2.3.4")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_refusal(raw):
    with contextlib.suppress(Refused):
        head = RequestHead(raw + b"\r\n\r\n", field_limit=100, field_size_limit=8190, line_limit=8190)
        assert head.path


@pytest.mark.parametrize(
    ("received", "checked", "code"),
    [
        (b"GET / HTTP/1.1\n", 0, Code.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nHost: a\n", 23, Code.BAD_REQUEST),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 30, 0, Code.BAD_REQUEST),
        (b"GET /" + b"a" * 8190, 5000, Code.URI_TOO_LONG),
    ],
    ids=["line feed", "line feed later", "tls", "long line"],
)
def test_a_head_that_cannot_become_good_is_not_waited_for(received, checked, code):
    with pytest.raises(Refused) as refused:
        check_beginning(received, checked=checked, line_limit=8190)

    assert refused.value.code == code


def test_a_head_that_can_still_become_good_is_waited_for():
    raw = b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: test\r\nX: y\r\n"
    for end in range(len(raw)):
        check_beginning(raw[:end], checked=max(end - 1, 0), line_limit=8190)
