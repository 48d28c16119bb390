"""Chunked bodies, whole and in every cut."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import Code
from infra.http.chunked import ChunkedDecoder
from infra.http.refusals import Refused


def _decode(*pieces: bytes, limit: int = 1000) -> tuple[bytes, bytes | None]:
    """The body and what is left behind it; None if it is not whole."""
    decoder = ChunkedDecoder(limit=limit, trailer_limit=100)
    for at, piece in enumerate(pieces):
        rest = decoder.feed(piece)
        if rest is not None:
            return bytes(decoder.body), rest + b"".join(pieces[at + 1 :])
    return bytes(decoder.body), None


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    trailers=st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC:\r\n"]),
    behind=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_a_body_is_the_same_however_it_is_cut(chunks, trailers, behind, cuts):
    raw = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n" + behind
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]

    told = _decode(*[raw[edges[at] : edges[at + 1]] for at in range(len(edges) - 1)])

    assert told == (b"".join(chunks), behind)


@given(st.binary(max_size=60))
def test_anything_else_is_refused_or_not_yet_whole(raw):
    with contextlib.suppress(Refused):
        body, rest = _decode(raw)
        assert rest is None or len(body) + len(rest) < len(raw)


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"3E9\r\n"], Code.PAYLOAD_TOO_LARGE),
        ([b"3E8\r\n" + b"a" * 1000 + b"\r\n", b"1\r\n"], Code.PAYLOAD_TOO_LARGE),
        ([b"0\r\nX: ", b"a" * 200], Code.HEADERS_TOO_LARGE),
        ([b"0\r\n" + b"X: a\r\n" * 20], Code.HEADERS_TOO_LARGE),
        ([b"1\r\na\r\n" * 8193], Code.BAD_REQUEST),
        ([b"123456789"], Code.BAD_REQUEST),
        ([b"1\r\na\r", b"x"], Code.BAD_REQUEST),
        ([b"1\r\nab"], Code.BAD_REQUEST),
        ([b"1\n"], Code.BAD_REQUEST),
        ([b"0\r\nX: y\n"], Code.BAD_REQUEST),
    ],
)
def test_a_bad_beginning_is_refused_before_the_rest_comes(pieces, code):
    with pytest.raises(Refused) as refused:
        _decode(*pieces, limit=1000 if code is not Code.BAD_REQUEST else 100_000)

    assert refused.value.code == code
