"""What the lean worker makes of an application's answers, beside what the stock one makes of them."""

import json

import pytest

from tests.integration.http.clients import Client, exchange
from tests.integration.http.site import PAGES

# Those have their own tests below, or wait.
_APART = {"/too-short", "/slow", "/errors", "/process", "/big", "/lines", "/replaced"}
_BROKEN = {"/raises", "/raises-late", "/raises-oserror", "/bad-header", "/bad-name"}


def _request(path: str, method: str = "GET", version: str = "1.1", *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *lines, "", ""]).encode() + body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("path", sorted(PAGES.keys() - _APART - _BROKEN))
def test_an_answer_is_what_the_stock_worker_makes_of_it(lean, stock, path, version, method):
    raw = _request(path, method, version, "Connection: keep-alive")
    ours, our_end = exchange(lean.port, raw, method=method)
    theirs, their_end = exchange(stock.port, raw, method=method)

    assert ours is not None
    assert theirs is not None
    apart = {"date", "content-length", "transfer-encoding", "connection"}
    assert (ours.status, ours.version, ours.body) == (theirs.status, theirs.version, theirs.body)
    assert {name: value for name, value in ours.headers.items() if name not in apart} == {
        name: value for name, value in theirs.headers.items() if name not in apart
    }
    if path in {"/list", "/empty", "/own-headers"}:
        # The whole body is at hand: the lean worker tells its length, and needs no other end.
        assert int(ours.headers["content-length"]) == len(ours.body) or method == "HEAD"
        assert our_end
    else:
        assert our_end == their_end
        assert ours.headers["connection"] == theirs.headers["connection"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", sorted(_BROKEN - {"/raises-late"}))
def test_an_application_that_breaks_is_a_500_problem(lean, path, method):
    answer, stays_open = exchange(lean.port, _request(path, method), method=method)

    assert answer is not None
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert method == "HEAD" or answer.json()["code"] == "internal_error"
    assert not stays_open


def test_an_answer_can_be_replaced_until_it_has_left(lean):
    answer, _ = exchange(lean.port, _request("/replaced"))

    assert answer is not None
    assert (answer.status, answer.body) == (500, b"replaced")


def test_a_body_that_breaks_off_is_not_passed_off_as_whole(lean):
    with Client(lean.port) as client:
        client.send(_request("/raises-late"))
        received = b""
        while piece := client.socket.recv(4096):
            received += piece

    assert received.endswith(b"5\r\nbegun\r\n")


def test_an_answer_shorter_than_its_length_closes_the_connection(lean):
    with Client(lean.port) as client:
        client.send(_request("/too-short"))
        answer = client.answer()

    assert answer is not None
    assert answer.body == b"short"
    lean.wait_for("an answer of 10 bytes ended after 5")


def test_a_header_with_a_line_break_never_leaves(worker):
    answer, _ = exchange(worker.port, _request("/bad-header"))

    assert answer is not None
    assert answer.status == 500
    assert "set-cookie" not in answer.headers


def test_a_small_answer_is_one_packet(lean):
    with Client(lean.port) as client:
        client.send(_request("/fixed", "POST"))
        received = client.socket.recv(65536)

    assert received.startswith(b"HTTP/1.1 201 Created\r\n")
    assert received.endswith(b"}")


def test_parts_leave_as_the_application_yields_them(lean):
    with Client(lean.port) as client:
        client.send(_request("/unsized"))
        answer = client.answer()

    assert answer is not None
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"one two three"


def test_the_input_reads_like_a_file(worker):
    raw = _request("/lines", "POST", "1.1", "Content-Length: 14", body=b"ab\ncd\nef\ngh\nij")
    answer, stays_open = exchange(worker.port, raw)

    assert answer is not None
    assert answer.json() == ["ab\n", "cd\n", "ef\n", "gh\n", "ij", ""]
    assert stays_open


def test_a_big_answer_arrives_whole(worker):
    answer, stays_open = exchange(worker.port, _request("/big"))

    assert answer is not None
    assert len(answer.body) == 8_000_000
    assert stays_open


def test_pipelined_requests_are_answered_in_order(worker):
    with Client(worker.port) as client:
        client.send(b"".join(_request(f"/echo/{number}") for number in range(20)))
        answers = [client.answer() for _ in range(20)]

    assert [answer.json()["PATH_INFO"] for answer in answers if answer] == [f"/echo/{number}" for number in range(20)]


def test_a_good_request_ahead_of_a_bad_one_is_answered(worker):
    with Client(worker.port) as client:
        client.send(_request("/echo") + b"nonsense\r\n\r\n" + _request("/echo"))
        first, second, third = client.answer(), client.answer(), client.answer()

    assert first is not None
    assert first.status == 200
    assert second is not None
    assert second.status == 400
    assert third is None


def test_nothing_is_served_behind_a_close(worker):
    with Client(worker.port) as client:
        client.send(_request("/echo", "GET", "1.1", "Connection: close") + _request("/echo"))
        first, second = client.answer(), client.answer()

    assert first is not None
    assert first.headers["connection"] == "close"
    assert second is None


def test_a_client_that_closes_its_half_still_gets_its_answer(worker):
    with Client(worker.port) as client:
        client.send(_request("/echo"))
        client.socket.shutdown(1)
        answer = client.answer()

        assert answer is not None
        assert answer.status == 200
        assert client.is_closed()


@pytest.mark.parametrize(
    "raw",
    [b"GET /echo HTTP/1.1\r\nHo", _request("/echo", "POST", "1.1", "Content-Length: 10", body=b"hello")],
    ids=["head", "body"],
)
def test_a_request_that_ends_in_the_middle_is_not_served(lean, raw):
    with Client(lean.port) as client:
        client.send(raw)
        client.socket.shutdown(1)
        answer = client.answer()

    assert answer is not None
    assert answer.status == 400
    assert "in the middle" in answer.json()["detail"]


class TestExpectContinue:
    def test_the_client_is_asked_to_go_on(self, worker):
        with Client(worker.port) as client:
            client.send(_request("/echo", "POST", "1.1", "Content-Length: 5", "Expect: 100-Continue"))
            interim = client.answer()
            client.send(b"hello")
            answer = client.answer()

            assert interim is not None
            assert interim.status == 100
            assert answer is not None
            assert answer.json()["body"] == "hello"
            assert client.is_open()

    def test_a_body_that_is_too_large_is_refused_before_it_is_sent(self, lean):
        with Client(lean.port) as client:
            client.send(_request("/echo", "POST", "1.1", "Content-Length: 262145", "Expect: 100-continue"))
            answer = client.answer()

        assert answer is not None
        assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")

    def test_a_body_that_is_there_already_is_not_asked_for(self, lean):
        with Client(lean.port) as client:
            client.send(_request("/echo", "POST", "1.1", "Content-Length: 2", "Expect: 100-continue", body=b"hi"))
            answer = client.answer()

        assert answer is not None
        assert answer.json()["body"] == "hi"

    def test_http_1_0_knows_no_expectations(self, worker):
        with Client(worker.port) as client:
            client.send(_request("/echo", "POST", "1.0", "Content-Length: 2", "Expect: 100-continue", body=b"hi"))
            answer = client.answer()

        assert answer is not None
        assert answer.status == 200


class TestFastLane:
    def test_the_lane_answers_ahead_of_wsgi(self, lean):
        raw = _request("/lane?a=%20", "POST", "1.1", "X-Two: 1", "x-two: 2", "Content-Length: 5", body=b"hello")
        answer, stays_open = exchange(lean.port, raw)

        assert answer is not None
        assert answer.status == 201
        assert {"date", "server", "connection", "content-length", "x-lane"} <= answer.headers.keys()
        assert answer.json() == {
            "method": "POST",
            "path": "/lane",
            "query": "a=%20",
            "headers": {"host": "test", "x-two": "1,2", "content-length": "5"},
            "body": "hello",
            "peer": "127.0.0.1",
        }
        assert stays_open

    def test_a_chunked_body_is_whole_for_the_lane(self, lean):
        raw = _request("/lane", "POST", "1.1", "Transfer-Encoding: chunked", body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        answer, _ = exchange(lean.port, raw)

        assert answer is not None
        assert answer.json()["body"] == "hello"

    def test_head_gets_the_head_alone(self, lean):
        answer, stays_open = exchange(lean.port, _request("/lane", "HEAD"), method="HEAD")

        assert answer is not None
        assert int(answer.headers["content-length"]) > 0
        assert stays_open

    def test_a_lane_answer_can_be_without_content(self, lean):
        answer, stays_open = exchange(lean.port, _request("/lane/204"))

        assert answer is not None
        assert answer.status == 204
        assert "content-length" not in answer.headers
        assert stays_open

    @pytest.mark.parametrize(("version", "line"), [("1.0", "X: y"), ("1.1", "Connection: close")])
    def test_the_lane_closes_where_http_wants_it(self, lean, version, line):
        answer, stays_open = exchange(lean.port, _request("/lane", "GET", version, line))

        assert answer is not None
        assert answer.headers["connection"] == "close"
        assert not stays_open

    def test_what_the_lane_leaves_goes_to_wsgi(self, lean):
        raw = _request("/lane/declined", "POST", "1.1", "Content-Length: 5", body=b"hello")
        answer, _ = exchange(lean.port, raw)

        assert answer is not None
        assert (answer.json()["PATH_INFO"], answer.json()["body"]) == ("/lane/declined", "hello")

    def test_an_endpoint_that_breaks_is_a_500_problem(self, lean):
        answer, stays_open = exchange(lean.port, _request("/lane/raises"))

        assert answer is not None
        assert (answer.status, answer.json()["code"]) == (500, "internal_error")
        assert not stays_open


class TestLogs:
    def test_both_workers_log_the_same_line(self, lean, stock):
        lines = []
        for server in (lean, stock):
            raw = _request("/echo/logged?a=b", "POST", "1.1", "User-Agent: me", "Referer: there", "Content-Length: 0")
            exchange(server.port, raw)
            server.wait_for("/echo/logged")
            [line] = [line for line in server.log().splitlines() if "/echo/logged" in line]
            lines.append(line)

        said = [(line.split(" ")[0], line.split("] ")[1].split(" ", 4)) for line in lines]
        # All but the length of the echo, which tells of the server's own port.
        assert said[0][0] == said[1][0] == "127.0.0.1"
        assert said[0][1][:4] == said[1][1][:4] == ['"POST', "/echo/logged?a=b", 'HTTP/1.1"', "200"]
        assert lines[0].endswith('"there" "me"')
        assert lines[1].endswith('"there" "me"')

    def test_the_lane_and_refusals_are_in_the_access_log(self, lean):
        exchange(lean.port, _request("/lane?logged"))
        exchange(lean.port, _request("/echo?too-large", "POST", "1.1", "Content-Length: 999999"))

        lean.wait_for('"GET /lane?logged HTTP/1.1" 201 ')
        lean.wait_for('"POST /echo?too-large HTTP/1.1" 413 ')

    def test_what_the_application_tells_wsgi_errors_is_in_the_error_log(self, worker):
        exchange(worker.port, _request("/errors"))

        worker.wait_for("told to wsgi.errors")

    def test_an_error_of_the_application_is_logged_with_its_traceback(self, lean):
        answer, _ = exchange(lean.port, _request("/raises", "GET", "1.1", "X-Request-Id: mine-12345678"))

        assert answer is not None
        assert answer.headers["x-request-id"] == "mine-12345678"
        assert "broken" not in json.dumps(answer.json())
        lean.wait_for("RuntimeError: broken")
