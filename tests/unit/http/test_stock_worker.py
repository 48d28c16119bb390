"""The stock worker's own refusals."""

import json
import socket
from unittest.mock import Mock

import pytest
from gunicorn.http import errors

from infra.http.stock_worker import ProblemGeventWorker


def _told(exc: BaseException) -> tuple[int, dict[str, str], dict[str, object]]:
    worker = Mock(log=Mock())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ProblemGeventWorker.handle_error(worker, None, ours, ("127.0.0.1", 1), exc)
        ours.close()
        head, _, body = theirs.makefile("rb").read().partition(b"\r\n\r\n")
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    return int(status_line.split()[1]), dict(line.split(": ", 1) for line in header_lines), json.loads(body)


@pytest.mark.parametrize(
    ("exc", "status", "code"),
    [
        (errors.LimitRequestLine(9000, 8190), 414, "uri_too_long"),
        (errors.LimitRequestHeaders("too many"), 431, "headers_too_large"),
        (errors.InvalidRequestLine("GARBAGE"), 400, "bad_request"),
        (errors.InvalidHeaderName("a b"), 400, "bad_request"),
        (errors.UnsupportedTransferCoding("gzip"), 400, "bad_request"),
        (errors.InvalidResponseHeader("X-Split"), 500, "internal_error"),
        (errors.InvalidResponseHeaderName("X Split"), 500, "internal_error"),
        (RuntimeError("broken"), 500, "internal_error"),
    ],
)
def test_a_refusal_of_the_server_is_a_problem_with_a_request_id(exc, status, code):
    told_status, headers, problem = _told(exc)
    assert (told_status, problem["status"], problem["code"]) == (status, status, code)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Connection"] == "close"
    assert headers["Date"].endswith(" GMT")
    assert len(headers["X-Request-Id"]) == 32


def test_a_refusal_does_not_repeat_what_the_client_sent():
    _, _, problem = _told(errors.InvalidRequestLine("GET /?token=secret"))
    assert "secret" not in json.dumps(problem)
