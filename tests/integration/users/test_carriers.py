"""The sender of a real installation, against a mail server and an SMS carrier on loopback."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from apps.users.senders.base import Notice, SendingFailed
from apps.users.senders.carriers import CarrierSender
from apps.users.types import LoginKind, LoginName

EMAIL = LoginName(LoginKind.EMAIL, "ada@example.org")
PHONE = LoginName(LoginKind.PHONE, "+447911123456")


@pytest.fixture(autouse=True)
def _settings(settings) -> None:
    settings.SHOP_NAME = "Corner Shop"
    settings.CARRIER_TIMEOUT_S = 2.0
    settings.EMAIL_HOST, settings.EMAIL_USE_TLS = "127.0.0.1", False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.DEFAULT_FROM_EMAIL = "shop@example.org"
    settings.SMS_ACCOUNT, settings.SMS_TOKEN, settings.SMS_FROM = "AC1", "secret", "+15005550006"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kept(Message):
    """Keeps what a mail server took."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = []

    def handle_message(self, message) -> None:
        self.messages.append(message)


@pytest.fixture
def mail(settings) -> Iterator[list]:
    kept = Kept()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port())
    controller.start()
    settings.EMAIL_PORT = controller.port
    yield kept.messages
    controller.stop()


class _Carrier(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.seen.append((self.path, self.headers["Authorization"], parse_qs(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def carrier(settings) -> Iterator[SimpleNamespace]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Carrier)
    server.seen, server.status = [], 201
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings.SMS_URL = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_code_goes_out_by_mail(mail: list) -> None:
    CarrierSender().send_code(EMAIL, "012345")
    (message,) = mail
    assert (message["To"], message["From"]) == (EMAIL.value, "shop@example.org")
    assert message["Subject"] == "Your code for Corner Shop"
    assert "012345 is your Corner Shop code. It is good for 5 minutes." in message.get_payload()


def test_a_notice_goes_out_by_mail(mail: list) -> None:
    CarrierSender().send_notice(EMAIL, Notice.LOGIN_CHANGED)
    assert "A login of your account was changed" in mail[0].get_payload().replace("\r\n", " ")


def test_a_code_goes_out_as_a_text_message(carrier) -> None:
    CarrierSender().send_code(PHONE, "012345")
    ((path, authorization, body),) = carrier.seen
    assert path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert authorization == "Basic " + base64.b64encode(b"AC1:secret").decode()
    assert body["To"] == [PHONE.value]
    assert body["From"] == ["+15005550006"]
    assert body["Body"][0].startswith("012345 is your Corner Shop code.")


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500])
def test_a_carrier_that_refuses_is_told(carrier, status: int) -> None:
    carrier.status = status
    with pytest.raises(SendingFailed, match=str(status)) as failure:
        CarrierSender().send_code(PHONE, "012345")
    assert PHONE.value not in str(failure.value)


def test_carriers_that_are_away_are_told(settings) -> None:
    settings.EMAIL_PORT = free_port()
    settings.SMS_URL = f"http://127.0.0.1:{free_port()}"
    for login in (EMAIL, PHONE):
        with pytest.raises(SendingFailed):
            CarrierSender().send_code(login, "012345")


def test_a_carrier_that_dribbles_is_not_waited_for(carrier, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CARRIER_TIMEOUT_S = 0.3
    is_over = threading.Event()

    def dribble(handler: _Carrier) -> None:
        while not is_over.wait(0.05):
            handler.wfile.write(b"H")

    monkeypatch.setattr(_Carrier, "do_POST", dribble)
    began_s = time.monotonic()
    with pytest.raises(SendingFailed, match="too long"):
        CarrierSender().send_code(PHONE, "012345")
    is_over.set()
    assert time.monotonic() - began_s < 2


def test_a_carrier_that_says_nothing_is_not_waited_for(settings, silent_port: int) -> None:
    settings.CARRIER_TIMEOUT_S = 0.2
    settings.EMAIL_PORT = silent_port
    settings.SMS_URL = f"http://127.0.0.1:{silent_port}"
    for login in (EMAIL, PHONE):
        with pytest.raises(SendingFailed):
            CarrierSender().send_code(login, "012345")
