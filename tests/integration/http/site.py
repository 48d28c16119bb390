"""A tiny WSGI site that tells what it was given, and answers in every way that PEP 3333 knows."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from infra.http.messages import Endpoint, LaneRequest, LaneResponse

FIXED = json.dumps({"id": "1" * 18, "status": "pending_payment", "padding": "x" * 700}).encode()


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what the environ says."""
    told = {
        key: value
        for key, value in environ.items()
        if isinstance(value, str) and key not in {"REMOTE_PORT", "SERVER_PORT", "SERVER_SOFTWARE"}
    }
    told["body"] = environ["wsgi.input"].read().decode("latin-1")
    body = json.dumps(told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def fixed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    start_response("201 Created", [("Content-Type", "application/json"), ("Content-Length", str(len(FIXED)))])
    return [FIXED]


def _plain(start_response: Callable[..., Any], *headers: tuple[str, str], status: str = "200 OK") -> Callable[..., Any]:
    return start_response(status, [("Content-Type", "text/plain"), *headers])


def _unsized(environ, start_response):
    _plain(start_response)
    return iter([b"one ", b"", b"two ", b"three"])


def _list(environ, start_response):
    _plain(start_response)
    return [b"one ", b"two"]


def _generator(environ, start_response) -> Iterator[bytes]:
    _plain(start_response)
    yield b"late "
    yield b"start"


def _written(environ, start_response):
    write = _plain(start_response)
    write(b"written ")
    return [b"returned"]


def _too_short(environ, start_response):
    _plain(start_response, ("Content-Length", "10"))
    return [b"short"]


def _too_long(environ, start_response):
    _plain(start_response, ("Content-Length", "4"))
    return [b"too long"]


def _no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def _not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def _empty(environ, start_response):
    _plain(start_response)
    return []


def _raises(environ, start_response):
    raise RuntimeError("broken")


def _raises_late(environ, start_response) -> Iterator[bytes]:
    _plain(start_response)
    yield b"begun"
    raise RuntimeError("broken")


def _raises_oserror(environ, start_response):
    raise ConnectionResetError("another server's")


def _bad_header(environ, start_response):
    _plain(start_response, ("X-Split", "a\r\nSet-Cookie: b=c"))
    return [b"never"]


def _bad_name(environ, start_response):
    _plain(start_response, ("X Split", "a"))
    return [b"never"]


def _own_headers(environ, start_response):
    _plain(start_response, ("Connection", "close"), ("Date", "never"), ("Transfer-Encoding", "gzip"), ("X-Own", "kept"))
    return [b"dropped"]


def _replaced(environ, start_response):
    _plain(start_response)
    try:
        int("found on the way")
    except ValueError as error:
        _info = (type(error), error, error.__traceback__)
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")], _info)
    return [b"replaced"]


def _lines(environ, start_response):
    source = environ["wsgi.input"]
    told = [source.read(3), source.readline(), *source, source.read()]
    _plain(start_response)
    return [json.dumps([piece.decode() for piece in told]).encode()]


def _slow(environ, start_response):
    time.sleep(1.5)
    _plain(start_response)
    return [str(os.getpid()).encode()]


def _process(environ, start_response):
    _plain(start_response)
    return [str(os.getpid()).encode()]


def _errors(environ, start_response):
    environ["wsgi.errors"].write("told to wsgi.errors\n")
    environ["wsgi.errors"].flush()
    _plain(start_response)
    return [b"told"]


def _big(environ, start_response):
    _plain(start_response)
    return [b"x" * 8_000_000]


PAGES = {
    "/fixed": fixed,
    "/unsized": _unsized,
    "/list": _list,
    "/generator": _generator,
    "/written": _written,
    "/too-short": _too_short,
    "/too-long": _too_long,
    "/204": _no_content,
    "/304": _not_modified,
    "/empty": _empty,
    "/raises": _raises,
    "/raises-late": _raises_late,
    "/raises-oserror": _raises_oserror,
    "/bad-header": _bad_header,
    "/bad-name": _bad_name,
    "/own-headers": _own_headers,
    "/replaced": _replaced,
    "/lines": _lines,
    "/slow": _slow,
    "/process": _process,
    "/errors": _errors,
    "/big": _big,
}


class _Lane:
    """Endpoints ahead of WSGI: one that answers, one that leaves the request to WSGI, one that breaks."""

    def match(self, method: str, path: str) -> Endpoint | None:
        return {"/lane": _in_lane, "/lane/declined": _declined, "/lane/raises": _broken, "/lane/204": _nothing}.get(
            path
        )


def _in_lane(request: LaneRequest) -> LaneResponse:
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query.decode(),
        "headers": {name.decode(): value.decode("latin-1") for name, value in request.headers.items()},
        "body": request.body.decode("latin-1"),
        "peer": request.peer,
    }
    return LaneResponse(201, [(b"Content-Type", b"application/json"), (b"X-Lane", b"1")], json.dumps(told).encode())


def _declined(request: LaneRequest) -> None:
    return None


def _broken(request: LaneRequest) -> LaneResponse:
    raise RuntimeError("broken")


def _nothing(request: LaneRequest) -> LaneResponse:
    return LaneResponse(204)


class _Site:
    """The WSGI application, with its fast lane."""

    fast_lane = _Lane()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return PAGES.get(environ["PATH_INFO"], echo)(environ, start_response)


application = _Site()
