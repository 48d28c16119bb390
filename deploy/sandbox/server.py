"""The sandbox's HTTP side: the merchant's API of bank and courier, their pages, and the process's life."""

import csv
import hmac
import html
import io
import json
import logging
import re
import time
from datetime import date
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from deploy.sandbox.bank import Bank
from deploy.sandbox.clockwork import Clockwork
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.courier import Courier
from deploy.sandbox.decoding import STEPS, parcel_request, payment_request, refund_request, scan, shopper_choice
from deploy.sandbox.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    NotAuthenticated,
    SandboxError,
    UnknownReference,
)
from deploy.sandbox.signing import merchant_key

logger = logging.getLogger(__name__)

_LONGEST_BODY = 64 * 1024

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox payment</title>
<h1>Pay {amount} {currency}</h1><p>Payment {reference}: <strong>{status}</strong></p>
<form method="post">{buttons}</form>
{way_back}</html>"""


_PARCEL_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox parcel</title>
<h1>Parcel {number}</h1><p>Shipment {reference}: <strong>{status}</strong></p>
<form method="post">{buttons}</form></html>"""


class Sandbox(ThreadingHTTPServer):
    """A running sandbox; `serve_forever` answers requests while the clockwork settles and delivers."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.merchant_key = merchant_key(configuration.secret)
        self.bank = Bank(
            configuration.folder / "bank.sqlite3",
            public_url=configuration.public_url,
            account=configuration.account,
            refund_duration_s=configuration.refund_duration_s,
            give_up_after_s=configuration.give_up_after_s,
        )
        self.clockwork = Clockwork(self.bank, configuration, callback_url=configuration.callback_url)
        self.courier = Courier(
            configuration.folder / "courier.sqlite3",
            public_url=configuration.public_url,
            fetched_after_s=configuration.fetched_after_s,
            give_up_after_s=configuration.give_up_after_s,
        )
        self.courier_clockwork = Clockwork(self.courier, configuration, callback_url=configuration.track_url)
        super().__init__(configuration.listen_address, _Handler)
        self.clockwork.start()
        self.courier_clockwork.start()

    def server_close(self) -> None:
        """Stop listening and delivering; the books stay as they are."""
        super().server_close()
        self.clockwork.stop()
        self.courier_clockwork.stop()
        self.bank.close()
        self.courier.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection; requests are answered one after another."""

    server: Sandbox
    protocol_version = "HTTP/1.1"
    server_version = "FloodgateSandbox"
    timeout = 30
    # Head and body leave in one segment; unbuffered, Nagle and delayed acknowledgements cost 40 ms an answer.
    wbufsize = -1
    disable_nagle_algorithm = True

    _ROUTES: ClassVar[tuple[tuple[re.Pattern[str], dict[str, str]], ...]] = (
        (re.compile(r"/healthz"), {"GET": "_health"}),
        (re.compile(r"/v1/payments"), {"POST": "_create_payment"}),
        (re.compile(r"/v1/payments/([A-Za-z0-9_-]{1,64})"), {"GET": "_fetch_payment"}),
        (re.compile(r"/v1/payments/([A-Za-z0-9_-]{1,64})/cancel"), {"POST": "_cancel_payment"}),
        (re.compile(r"/v1/payments/([A-Za-z0-9_-]{1,64})/capture"), {"POST": "_capture_payment"}),
        (re.compile(r"/v1/refunds"), {"POST": "_create_refund"}),
        (re.compile(r"/v1/refunds/([A-Za-z0-9_-]{1,64})"), {"GET": "_fetch_refund"}),
        (re.compile(r"/v1/settlements/([0-9]{4}-[0-9]{2}-[0-9]{2})"), {"GET": "_show_settlement"}),
        (re.compile(r"/pay/([A-Za-z0-9_-]{1,64})"), {"GET": "_show_page", "POST": "_choose"}),
        (re.compile(r"/v1/parcels"), {"POST": "_book_parcel"}),
        (re.compile(r"/v1/parcels/([A-Za-z0-9_-]{1,64})"), {"GET": "_fetch_parcel"}),
        (re.compile(r"/v1/parcels/([A-Za-z0-9_-]{1,64})/cancel"), {"POST": "_cancel_parcel"}),
        (re.compile(r"/parcels/([A-Za-z0-9_-]{1,64})"), {"GET": "_show_parcel", "POST": "_scan"}),
    )

    def _answer_request(self) -> None:
        try:
            self._dispatch(self._read_body())
        except SandboxError as error:
            self._send_json(error.status, {"error": {"code": error.code, "detail": error.detail}})
        except Exception:
            logger.exception("request failed")
            self.close_connection = True
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": {"code": "internal_error", "detail": ""}})

    # The names that http.server looks for.
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer_request  # noqa: N815

    def _dispatch(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        method = "GET" if self.command == "HEAD" else self.command
        for pattern, methods in self._ROUTES:
            if match := pattern.fullmatch(path):
                if method not in methods:
                    raise MethodNotAllowed(f"this page takes {', '.join(sorted(methods))}")
                if path.startswith("/v1/"):
                    self._authenticate()
                getattr(self, methods[method])(body, *match.groups())
                return
        raise UnknownReference("no such page")

    # -- merchant ---------------------------------------------------------------------------------------------

    def _authenticate(self) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self.server.merchant_key}".encode()):
            raise NotAuthenticated("the merchant's key is missing or wrong")

    def _create_payment(self, body: bytes) -> None:
        shown = self.server.bank.create_payment(payment_request(body), now_s=time.time())
        self._send_json(HTTPStatus.OK, shown)

    def _fetch_payment(self, body: bytes, reference: str) -> None:
        self._send_json(HTTPStatus.OK, self.server.bank.fetch_payment(reference))

    def _capture_payment(self, body: bytes, reference: str) -> None:
        shown = self.server.bank.capture_payment(reference, now_s=time.time())
        self.server.clockwork.prompt()
        self._send_json(HTTPStatus.OK, shown)

    def _cancel_payment(self, body: bytes, reference: str) -> None:
        self._send_json(HTTPStatus.OK, self.server.bank.cancel_payment(reference))

    def _create_refund(self, body: bytes) -> None:
        shown = self.server.bank.create_refund(refund_request(body), now_s=time.time())
        self.server.clockwork.prompt()
        self._send_json(HTTPStatus.OK, shown)

    def _fetch_refund(self, body: bytes, reference: str) -> None:
        self._send_json(HTTPStatus.OK, self.server.bank.fetch_refund(reference))

    def _show_settlement(self, body: bytes, day: str) -> None:
        try:
            lines = self.server.bank.settlement(date.fromisoformat(day))
        except ValueError as error:
            raise UnknownReference("no such day") from error
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(("kind", "reference", "amount", "currency", "at"))
        writer.writerows(lines)
        self._send(HTTPStatus.OK, file.getvalue().encode(), "text/csv; charset=utf-8", {})

    # -- shopper ----------------------------------------------------------------------------------------------

    def _choose(self, body: bytes, token: str) -> None:
        media_type = self._media_type()
        choice = shopper_choice(body, media_type=media_type)
        payment = self.server.bank.choose(token, choice, now_s=time.time())
        self.server.clockwork.prompt()
        self._answer_page(payment, media_type)

    def _show_page(self, body: bytes, token: str) -> None:
        payment = self.server.bank.find_page(token)
        is_open = payment["status"] in ("requires_action", "cancelled")
        outcomes = ("succeed", "fail", "twice", "silent") if is_open else ()
        shown = {name: html.escape(str(payment[name])) for name in ("amount", "currency", "reference", "status")}
        return_url = str(payment["return_url"])
        page = _PAGE.format(
            **shown,
            buttons="".join(f'<button name="outcome" value="{outcome}">{outcome}</button> ' for outcome in outcomes),
            way_back=f'<p><a href="{html.escape(return_url)}">Back to the shop</a></p>' if return_url else "",
        )
        self._send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", {})

    # -- courier ----------------------------------------------------------------------------------------------

    def _book_parcel(self, body: bytes) -> None:
        shown = self.server.courier.book(parcel_request(body), now_s=time.time())
        self.server.courier_clockwork.prompt()
        self._send_json(HTTPStatus.OK, shown)

    def _fetch_parcel(self, body: bytes, reference: str) -> None:
        self._send_json(HTTPStatus.OK, self.server.courier.fetch(reference))

    def _cancel_parcel(self, body: bytes, reference: str) -> None:
        self._send_json(HTTPStatus.OK, self.server.courier.cancel(reference))

    def _scan(self, body: bytes, number: str) -> None:
        media_type = self._media_type()
        parcel = self.server.courier.scan(number, scan(body, media_type=media_type), now_s=time.time())
        self.server.courier_clockwork.prompt()
        self._answer_page(parcel, media_type)

    def _show_parcel(self, body: bytes, number: str) -> None:
        parcel = self.server.courier.find(number)
        buttons = "".join(f'<button name="status" value="{step}">{step}</button> ' for step in sorted(STEPS))
        shown = {name: html.escape(str(parcel[name])) for name in ("number", "reference", "status")}
        page = _PARCEL_PAGE.format(**shown, buttons=buttons)
        self._send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", {})

    def _health(self, body: bytes) -> None:
        self._send_json(HTTPStatus.OK, {"status": "ok"})

    # -- bytes ------------------------------------------------------------------------------------------------

    def _media_type(self) -> str:
        return self.headers.get_content_type() if "Content-Type" in self.headers else "application/json"

    def _answer_page(self, shown: dict[str, Any], media_type: str) -> None:
        """Answer a script with what it has changed, and a browser with the page again."""
        if media_type == "application/json":
            self._send_json(HTTPStatus.OK, shown)
        else:
            self._send(HTTPStatus.SEE_OTHER, b"", "text/html", {"Location": urlsplit(self.path).path})

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise SandboxError("send a body with its Content-Length")
        if int(length) > _LONGEST_BODY:
            self.close_connection = True
            raise BodyTooLarge(f"at most {_LONGEST_BODY} bytes")
        return self.rfile.read(int(length))

    def _send_json(self, status: HTTPStatus, contents: dict[str, Any]) -> None:
        self._send(status, json.dumps(contents).encode(), "application/json", {})

    def _send(self, status: HTTPStatus, body: bytes, media_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no line a request; a load test makes thousands."""
