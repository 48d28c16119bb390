"""Answers that a client may keep for a moment and ask about again by their entity tag (RFC 9110)."""

from django.utils.http import parse_etags

from infra.http.messages import LaneRequest, LaneResponse


def conditional_answer(request: LaneRequest, *, body: bytes, etag: str, max_age_s: int) -> LaneResponse:
    """Answer 304 when the client has this very content, else send it."""
    headers = [
        (b"ETag", etag.encode("ascii")),
        (b"Cache-Control", b"public, max-age=%d" % max_age_s),
    ]
    known = request.headers.get(b"if-none-match")
    if known is not None and _matches(known.decode("latin-1"), etag):
        return LaneResponse(304, headers, b"")
    headers.append((b"Content-Type", b"application/json"))
    return LaneResponse(200, headers, body)


def _matches(known: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 has it for If-None-Match."""
    if known == etag or known.strip() == "*":
        return True
    return etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in parse_etags(known))
