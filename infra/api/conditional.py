"""Answers that a client may keep for a moment and ask about again by their entity tag (RFC 9110)."""

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags


def conditional_answer(request: HttpRequest, *, body: bytes, etag: str, max_age_s: int) -> HttpResponse:
    """Answer 304 when the client has this very content, else send it (only its length for HEAD)."""
    headers = {"ETag": etag, "Cache-Control": f"public, max-age={max_age_s}"}
    known = request.META.get("HTTP_IF_NONE_MATCH")
    if known is not None and _matches(known, etag):
        response = HttpResponse(status=304, headers=headers)
        del response.headers["Content-Type"]
        return response
    headers["Content-Length"] = str(len(body))
    return HttpResponse(body if request.method == "GET" else b"", content_type="application/json", headers=headers)


def _matches(known: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 has it for If-None-Match."""
    if known == etag or known.strip() == "*":
        return True
    return etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in parse_etags(known))
