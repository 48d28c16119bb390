"""Requests to addresses that somebody outside has named: where they go, and when they end."""

import socket
import threading
import time

import pytest

from infra.outgoing import client
from infra.outgoing.client import RequestFailed, UrlRefused, check_reachable, parse_target, post
from tests.factories.receivers import HOST, https_receiver, raw_receiver


def send(url, *, timeout_s=2.0):
    return post(url, headers={"Content-Type": "application/json", "webhook-id": "1"}, body=b"{}", timeout_s=timeout_s)


def test_a_request_arrives_as_it_was_sent_and_its_status_comes_back(loopback, authority):
    with https_receiver(authority) as receiver:
        receiver.status, receiver.headers = 503, {"Retry-After": "7"}
        answer = send(f"{receiver.url}?a=b")
    assert (answer.status, answer.retry_after) == (503, "7")
    [request] = receiver.requests
    assert (request.path, request.body) == ("/hook?a=b", b"{}")
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    assert request.headers["webhook-id"] == "1"


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/", "ftp://shop.example/", "//shop.example/", "shop.example", "", "https://", "https:///x",
        "https://u:p@shop.example/", "https://u@shop.example/", "https://shop.example:0/", "https://shop.example:99999/",
        "https://shop.example/#f", "https://shop.example\\@evil.example/", "https://[::1/", "https://[fe80::1%25eth0]/",
        "https://shop.example/a b", "https://shöp.example/", "https://shop.example/\r\nX: y", "https://.example/",
        "https://" + "a" * 500,
    ],
)  # fmt: skip
def test_what_is_no_https_address_is_refused(url):
    with pytest.raises(UrlRefused):
        parse_target(url)


def test_an_address_is_taken_apart_once():
    target = parse_target("https://shop.example:8443/hook?a=b")
    assert (target.host, target.port, target.path, target.authority) == (
        "shop.example", 8443, "/hook?a=b", "shop.example:8443",
    )  # fmt: skip
    assert parse_target("https://[2606:4700::1]").authority == "[2606:4700::1]"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::1]", "0.0.0.0"])
def test_loopback_is_refused_however_it_is_written(host, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises((RequestFailed, UrlRefused)):
        send(f"https://{host}:9/")


def test_a_name_is_refused_when_any_of_its_addresses_is_not_public(names, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    names.say(HOST, ["93.184.216.34", "169.254.169.254"])
    with pytest.raises(RequestFailed, match="not public"):
        send(f"https://{HOST}/")
    with pytest.raises(UrlRefused, match="not public"):
        check_reachable(f"https://{HOST}/", timeout_s=1)


def test_a_name_that_means_something_else_the_second_time_reaches_nothing_inside(names, monkeypatch):
    # given a name that is public when the staff enter it, and private ever after
    connected = []
    monkeypatch.setattr(socket, "create_connection", lambda address, **_: connected.append(address))
    names.say(HOST, ["93.184.216.34"], ["10.0.0.7"])
    check_reachable(f"https://{HOST}/", timeout_s=1)

    # when it is sent to
    with pytest.raises(RequestFailed, match="not public"):
        send(f"https://{HOST}/")

    # then it was asked anew, and nobody was connected to
    assert names.asked == [HOST, HOST]
    assert connected == []


def test_the_name_is_asked_once_for_a_request_and_the_connection_goes_to_what_was_checked(names, monkeypatch):
    # given a name that turns private between the check and the connection
    connected = []

    def connect(address, **_):
        connected.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    names.say(HOST, ["93.184.216.34", "2606:4700::1"], ["10.0.0.7"])

    # when
    with pytest.raises(RequestFailed, match="refused"):
        send(f"https://{HOST}:8443/")

    # then each checked address was tried by number, and the name was not asked again
    assert connected == [("93.184.216.34", 8443), ("2606:4700::1", 8443)]
    assert names.asked == [HOST]


def test_without_the_check_at_the_connection_such_a_name_lands_inside(names, authority, settings, monkeypatch):
    # given the same, for a client that checks when the address is entered and no more
    settings.OUTGOING_CA_FILE = str(authority.file)
    with https_receiver(authority) as receiver:
        names.say(HOST, ["93.184.216.34"], ["127.0.0.1"])
        check_reachable(receiver.url, timeout_s=1)
        monkeypatch.setattr(client, "_check", lambda *_: None)

        # when it is sent to, then it arrives
        assert send(receiver.url).status == 200


def test_the_peer_is_checked_again_once_it_is_there(names, authority, settings, monkeypatch):
    settings.OUTGOING_CA_FILE = str(authority.file)
    names.say(HOST, ["93.184.216.34"])
    with https_receiver(authority) as receiver:
        real = socket.create_connection
        monkeypatch.setattr(
            socket, "create_connection", lambda address, **options: real(("127.0.0.1", receiver.port), **options)
        )
        with pytest.raises(RequestFailed, match="not public"):
            send(receiver.url)
    assert receiver.requests == []


def test_a_certificate_of_another_name_is_refused(loopback, authority):
    with https_receiver(authority, name="other.example") as receiver, pytest.raises(RequestFailed, match="certificate"):
        send(receiver.url)
    assert receiver.requests == []


def test_a_certificate_that_nobody_vouches_for_is_refused(loopback, authority, settings):
    settings.OUTGOING_CA_FILE = ""
    with https_receiver(authority) as receiver, pytest.raises(RequestFailed, match="certificate"):
        send(receiver.url)
    assert receiver.requests == []


def test_a_redirect_is_an_answer_and_is_not_followed(loopback, authority):
    with https_receiver(authority) as receiver:
        receiver.status, receiver.headers = 302, {"Location": receiver.url + "/elsewhere"}
        assert send(receiver.url).status == 302
    assert len(receiver.requests) == 1


def test_a_proxy_of_the_environment_is_not_asked(loopback, authority, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with https_receiver(authority) as receiver:
        assert send(receiver.url).status == 200


def _ends_in_time(url, *, timeout_s=0.5):
    began_at = time.monotonic()
    with pytest.raises(RequestFailed):
        send(url, timeout_s=timeout_s)
    assert time.monotonic() - began_at < timeout_s + 1.0


def _dribbles(first: bytes, then: bytes):
    """Return a server that sends something, and then a little more every 50 ms for ever."""

    def serve(tls):
        tls.recv(4096)
        tls.sendall(first)
        for _ in range(200):
            tls.sendall(then)
            time.sleep(0.05)

    return serve


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"HTTP/1.1 2", b"0"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "status line", "headers", "interim answers"],
)
def test_whatever_a_receiver_dribbles_the_deadline_holds(loopback, authority, first, then):
    with raw_receiver(authority, _dribbles(first, then)) as url:
        _ends_in_time(url)


def test_an_answer_counts_whose_body_does_not_end(loopback, authority):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_receiver(authority, _dribbles(head, b"1\r\nx\r\n")) as url:
        began_at = time.monotonic()
        assert send(url, timeout_s=0.5).status == 200
        assert time.monotonic() - began_at < 1.5


def test_no_more_is_read_of_an_answer_than_a_bound(loopback, authority):
    sent = []

    def serve(tls):
        tls.recv(4096)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            sent.append(tls.send(b"x" * 100_000))

    with raw_receiver(authority, serve) as url:
        assert send(url, timeout_s=5).status == 200
    assert sum(sent) < 50_000_000


def test_a_receiver_that_does_not_shake_hands_is_given_up(loopback):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        _ends_in_time(f"https://{HOST}:{listener.getsockname()[1]}/")


def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(client, "resolve", lambda *_: released.wait(10))
    _ends_in_time(f"https://{HOST}/")
    released.set()


@pytest.mark.parametrize("said", [b"not http at all\r\n\r\n", b"", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_not_http_is_a_failure(loopback, authority, said):
    def serve(tls):
        tls.recv(4096)
        tls.sendall(said)

    with raw_receiver(authority, serve) as url, pytest.raises(RequestFailed):
        send(url)
