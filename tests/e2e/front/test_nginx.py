"""nginx in front: what it passes on, what it answers itself, what it keeps, whom it slows down."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local import nginx as configuration
from deploy.local.processes import is_alive
from infra.errors import STATUS_BY_CODE, Code
from tests.e2e.front.conftest import Application, Nginx
from tests.integration.mysql.servers import free_port

pytestmark = pytest.mark.needs("nginx")

MEMBERS = {"type", "title", "status", "detail", "code", "trace_id"}
PRODUCT = "/api/v1/products/17"


def assert_problem(answer: tuple[int, dict[str, str], dict], status: int, code: str) -> None:
    told, headers, problem = answer
    assert (told, problem["status"], problem["code"]) == (status, status, code), problem
    assert set(problem) == MEMBERS
    assert headers["content-type"] == "application/problem+json"
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", headers["x-request-id"])
    assert problem["trace_id"]
    assert headers["cache-control"] == "no-store"
    if status in (429, 503):
        assert int(headers["retry-after"]) >= 1


def test_what_nginx_tells_is_in_the_contracts_words() -> None:
    told = {(code, status) for code, status, _, _ in configuration._PROBLEMS.values()}
    gateway = ("upstream_unavailable", 504)  # the contract gives one code for 502 and 504
    assert gateway in told
    assert {(code, STATUS_BY_CODE[Code(code)]) for code, _ in told - {gateway}} == told - {gateway}


# -- what is passed on ---------------------------------------------------------------------------------------


def test_the_application_is_told_the_real_peer_whatever_the_headers_say(
    shared_front: Nginx, shared_application: Application
) -> None:
    lies = {"X_Forwarded_For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "X_Real_IP": "8.8.8.8"}
    lies |= {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https", "X_Request_Start": "t=1"}
    shared_front.ask("GET", "/anything", source="127.0.0.7", **lies)
    [seen] = shared_application.seen
    assert seen.headers["x-forwarded-for"] == "127.0.0.7"
    assert seen.headers["x-forwarded-proto"] == "http"
    assert 0 <= time.time() - float(seen.headers["x-request-start"].removeprefix("t=")) < 5
    assert not {"forwarded", "x-real-ip", "x-forwarded-host"} & seen.headers.keys()
    assert seen.peer == configuration.PROXY_ADDRESS


def test_the_path_is_passed_on_as_it_was_sent(shared_front: Nginx, shared_application: Application) -> None:
    path = "/api/v1//orders/%2e%2e/%41?a=b%20c&d=//"
    shared_front.ask("GET", path)
    assert [seen.path for seen in shared_application.seen] == [path]


@pytest.mark.parametrize("sent", ["client-id.1234", "x" * 64])
def test_a_well_formed_request_id_is_kept(shared_front: Nginx, shared_application: Application, sent: str) -> None:
    _, headers, _ = shared_front.ask("GET", "/anything", X_Request_Id=sent)
    assert headers["x-request-id"] == sent == shared_application.seen[0].headers["x-request-id"]


@pytest.mark.parametrize("sent", ["short", "no spaces, please", "x" * 65, 'quo"te-quote'])
def test_another_request_id_is_replaced_for_both_sides_alike(
    shared_front: Nginx, shared_application: Application, sent: str
) -> None:
    _, headers, _ = shared_front.ask("GET", "/anything", X_Request_Id=sent)
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert headers["x-request-id"] == shared_application.seen[0].headers["x-request-id"]


def test_connections_to_the_application_are_kept(shared_front: Nginx, shared_application: Application) -> None:
    for _ in range(20):
        shared_front.ask("POST", "/anything", body=b"{}")
    assert all("connection" not in seen.headers for seen in shared_application.seen)
    # each of nginx's processes has its own
    assert len({seen.peer_port for seen in shared_application.seen}) <= (os.cpu_count() or 1)


# -- what nginx refuses by itself ----------------------------------------------------------------------------

HOST = b"Host: shop\r\nX-Request-Id: client-id.1234\r\n"
REFUSED = {
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "no request line": (b"nonsense\r\n\r\n", 400, "bad_request"),
    "a space in the path": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "above the root": (b"GET /../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "another version": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
    "a method for proxies": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "a long line": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "a long header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
    "many headers": (
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(12)) + b"\r\n",
        431,
        "headers_too_large",
    ),
    "a large body": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 262145\r\n\r\n" + b"x" * 1000,
        413,
        "payload_too_large",
    ),
    "a large body in chunks": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n40001\r\n" + b"x" * 1000,
        413,
        "payload_too_large",
    ),
}
# Whoever reads these by another header than its neighbour takes a part of one request for the next one.
SMUGGLED = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    "both lengths, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "the same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nabcde",
    "a signed length": b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": b"Content-Length: -5\r\n\r\nabcde",
    "a hexadecimal length": b"Content-Length: 0x5\r\n\r\nabcde",
    "an unknown coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a misspelt coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a chunk of no length": b"Transfer-Encoding: chunked\r\n\r\nz\r\n\r\n",
    "a chunk of a negative length": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_of_the_contract_is_a_problem(
    shared_front: Nginx, shared_application: Application, name: str
) -> None:
    request, status, code = REFUSED[name]
    answer = shared_front.ask_raw(request)
    assert_problem(answer, status, code)
    if HOST in request and b" HTTP/1.1" in request and code not in ("uri_too_long", "bad_request"):
        assert answer[1]["x-request-id"] == "client-id.1234"
    assert shared_application.seen == []


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_of_doubtful_length_is_refused(
    shared_front: Nginx, shared_application: Application, name: str
) -> None:
    answer = shared_front.ask_raw(b"POST /api/v1/orders HTTP/1.1\r\n" + HOST + SMUGGLED[name])
    assert_problem(answer, 400, "bad_request")
    assert shared_application.seen == []


@pytest.mark.parametrize(
    "headers",
    [b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", b"Transfer_Encoding: chunked\r\n\r\n"],
)
def test_a_header_with_a_doubtful_name_is_not_passed_on(
    shared_front: Nginx, shared_application: Application, headers: bytes
) -> None:
    shared_front.ask_raw(b"POST /anything HTTP/1.1\r\n" + HOST + headers)
    assert all("transfer-encoding" not in seen.headers for seen in shared_application.seen)
    assert all("transfer_encoding" not in seen.headers for seen in shared_application.seen)
    assert len(shared_application.seen) <= 1


# -- when the application does not answer --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_nothing_was_taken_when_nobody_listens(make_front: Callable[..., Nginx], method: str) -> None:
    front = make_front(free_port())
    answer = front.ask(method, "/api/v1/orders", X_Request_Id="client-id.1234", body=b"{}")
    assert_problem(answer, 503, "overloaded")
    assert answer[1]["x-request-id"] == "client-id.1234"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nobody_knows_the_outcome_when_the_answer_is_lost(front: Nginx, application: Application, method: str) -> None:
    assert_problem(front.ask(method, "/gone", body=b"{}"), 503, "outcome_unknown")
    if method == "POST":
        assert len(application.seen) == 1, "a POST is never sent again"


def test_nobody_knows_the_outcome_when_the_answer_does_not_come_in_time(front: Nginx, application: Application) -> None:
    assert_problem(front.ask("POST", "/hung", body=b"{}"), 503, "outcome_unknown")
    assert len(application.seen) == 1


def test_a_read_without_an_answer_took_nothing(front: Nginx) -> None:
    assert_problem(front.ask("GET", "/gone"), 503, "overloaded")
    assert_problem(front.ask("GET", "/hung"), 504, "upstream_unavailable")


def test_the_application_is_asked_again_as_soon_as_it_is_back(
    front: Nginx, application: Application, make_front: Callable[..., Nginx]
) -> None:
    port = free_port()
    waiting = make_front(port)
    assert waiting.ask("GET", "/anything")[0] == 503
    back = Application(port)
    assert waiting.ask("GET", "/anything")[0] == 200
    back.stop()


# -- what is kept --------------------------------------------------------------------------------------------


def test_anonymous_reads_of_the_catalog_are_answered_from_memory(front: Nginx, application: Application) -> None:
    first = front.ask("GET", PRODUCT, X_Request_Id="first-asker")
    second = front.ask("GET", PRODUCT, X_Request_Id="second-asker")
    head = front.ask("HEAD", PRODUCT)
    assert len(application.seen) == 1
    assert first[2] == second[2] == {"n": 1}
    assert (first[1]["x-request-id"], second[1]["x-request-id"]) == ("first-asker", "second-asker")
    assert (head[0], head[2]) == (200, None)
    assert second[1]["cache-control"] == "public, max-age=1"
    assert second[1]["etag"] == '"first"'


def test_who_knows_the_content_is_told_that_it_is_the_same(front: Nginx, application: Application) -> None:
    front.ask("GET", PRODUCT)
    for known in ('"first"', 'W/"first"', '"other", "first"'):
        status, headers, body = front.ask("GET", PRODUCT, If_None_Match=known, X_Request_Id="client-id.1234")
        assert (status, body) == (304, None)
        assert (headers["x-request-id"], headers["etag"]) == ("client-id.1234", '"first"')
    assert front.ask("GET", PRODUCT, If_None_Match='"other"')[0] == 200
    assert len(application.seen) == 1


def test_nothing_is_kept_for_longer_than_two_seconds(front: Nginx, application: Application) -> None:
    front.ask("GET", PRODUCT)
    application.etag = '"second"'
    time.sleep(2.05)
    assert front.ask("GET", PRODUCT)[1]["etag"] == '"second"'


def test_each_query_is_kept_apart(front: Nginx, application: Application) -> None:
    bodies = [front.ask("GET", f"/api/v1/products?q={word}")[2]["n"] for word in ("tea", "cup", "tea")]
    assert bodies == [1, 2, 1]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PRODUCT, {"Authorization": "Bearer x"}),
        (PRODUCT, {"If_Match": '"first"'}),
        ("/api/v1/orders", {}),
        ("/api/v1/flash-sales/5", {}),
        ("/healthz/ready", {}),
        ("/api/v1/products/nothing", {}),
    ],
)
def test_everything_else_goes_to_the_application(
    shared_front: Nginx, shared_application: Application, path: str, headers: dict[str, str]
) -> None:
    answers = [shared_front.ask("GET", path, **headers)[2]["n"] for _ in range(2)]
    assert answers == [1, 2]


def test_what_was_answered_to_a_token_is_not_shown_to_others(front: Nginx) -> None:
    front.ask("GET", PRODUCT, Authorization="Bearer x")
    assert front.ask("GET", PRODUCT)[2] == {"n": 2}


# -- who is slowed down --------------------------------------------------------------------------------------

EXEMPT = "127.0.0.9"


@pytest.fixture
def strict(application: Application, make_front: Callable[..., Nginx]) -> Nginx:
    """An nginx that exempts one address, and lets others send five requests at once and then one a second."""
    return make_front(
        application.server_port,
        exempt_networks=(f"{EXEMPT}/32",),
        requests_per_second=1,
        burst=4,
        connections=3,
    )


def test_an_address_that_asks_too_often_is_told_to_wait(strict: Nginx, application: Application) -> None:
    headers = [{}, {"X_Forwarded_For": EXEMPT}, {"X_Real_IP": EXEMPT}, {"Forwarded": f"for={EXEMPT}"}, {"Host": EXEMPT}]
    answers = [strict.ask("POST", "/anything", body=b"{}", **headers[n % len(headers)]) for n in range(20)]
    # two seconds at the most have gone by
    assert 5 <= sum(status == 200 for status, _, _ in answers) <= 7
    for answer in answers:
        if answer[0] != 200:
            assert_problem(answer, 429, "rate_limited")
    assert len(application.seen) == sum(status == 200 for status, _, _ in answers)
    # others are not held up by it
    assert strict.ask("GET", "/anything", source="127.0.0.8")[0] == 200


def test_an_exempt_address_is_not_slowed_down(strict: Nginx) -> None:
    assert {strict.ask("GET", "/anything", source=EXEMPT)[0] for _ in range(20)} == {200}


def test_an_address_may_hold_so_many_requests_at_once(strict: Nginx, application: Application) -> None:
    application.hang_s = 0.5
    with ThreadPoolExecutor(6) as pool:
        statuses = Counter(pool.map(lambda _: strict.ask("GET", "/hung")[0], range(6)))
        assert statuses == {200: 3, 429: 3}
        statuses = Counter(pool.map(lambda _: strict.ask("GET", "/hung", source=EXEMPT)[0], range(6)))
        assert statuses == {200: 6}


# -- its own life --------------------------------------------------------------------------------------------


def test_a_killed_nginx_leaves_nothing_that_keeps_the_next_one_from_its_port(front: Nginx) -> None:
    orphans = front.workers()
    front.end(signal.SIGKILL)
    assert front.ask("GET", "/anything")[0] == 200, "the orphans go on, which is why they must be ended"
    front.start()
    assert front.ask("GET", "/anything")[0] == 200
    assert not set(orphans) & set(front.workers())
    assert not any(is_alive(process_id) for process_id in orphans)
    assert "Address already in use" not in front.log.read_text()


def test_a_reload_loses_no_request(front: Nginx) -> None:
    before = front.workers()

    def ask_in_a_row(_: int) -> list[int]:
        return [front.ask("POST", "/anything", body=b"{}")[0] for _ in range(60)]

    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(ask_in_a_row, range(4))
        for _ in range(2):
            time.sleep(0.1)
            front.reload()
        statuses = Counter(status for row in rows for status in row)
    assert statuses == {200: 240}
    assert not set(before) & set(front.workers())
