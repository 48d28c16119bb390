"""A sandbox of a test's own, a listener that takes its callbacks, and signed deliveries made by hand."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
from django.utils import timezone
from requests.structures import CaseInsensitiveDict

from apps.orders.locks import lock_order
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.orders.selectors import find_order, get_order
from apps.orders.services.payment import (
    receive_callback,
    record_payment_outcome,
    record_refund_outcome,
    start_payment,
)
from apps.orders.services.refunds import request_refund
from apps.orders.services.stock import sync_stock_of
from apps.orders.services.transitions import advance
from apps.orders.types import OrderView, PaymentRequest, RefundRequest
from apps.payments.selectors import get_attempt, get_refund
from apps.payments.services import create_attempt, parse_reference
from apps.payments.types import AttemptStatus, AttemptView, PaymentOutcome, RefundOutcome, RefundStatus, RefundView
from deploy.sandbox.signing import SIGNATURE_HEADER, merchant_key, signature_header
from infra.idempotency.keys import request_key
from infra.sharding.ids import time_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order, place_of_user
from infra.sharding.workers import new_order_id, new_user_id
from tests.factories.orders import make_buyer, placed_order

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the secret of the sandbox of the tests, long enough"


class Listener:
    """Takes callbacks as the merchant's side would; answers with `status` and keeps what came."""

    def __init__(self) -> None:
        self.status = 200
        self.deliveries: list[tuple[float, dict[str, str], bytes]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.deliveries.append((time.time(), dict(self.headers), body))
                self.send_response(listener.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/callbacks"

    def events(self, reference: str | None = None) -> list[dict[str, Any]]:
        """Return the decoded bodies, in the order of their arrival; of one payment or refund, or all."""
        decoded = [json.loads(body) for _, _, body in tuple(self.deliveries)]
        if reference is None:
            return decoded
        return [e for e in decoded if e.get("payment", e.get("refund"))["reference"] == reference]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RunningSandbox:
    """`python -m deploy.sandbox` as a process of its own, which can be killed and started again on its books."""

    def __init__(self, folder: Path, *, callback_url: str, fetched_after_s: float = 60.0) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.secret = SECRET
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "FLOODGATE_SANDBOX_URL": self.url,
            "FLOODGATE_SANDBOX_SECRET": SECRET,
            "FLOODGATE_SANDBOX_CALLBACK_URL": callback_url,
            "FLOODGATE_SANDBOX_TRACK_URL": callback_url,
            "FLOODGATE_SANDBOX_FETCHED_AFTER_S": str(fetched_after_s),
            "FLOODGATE_VAR_DIR": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {merchant_key(SECRET)}"

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "deploy.sandbox"], cwd=ROOT, env=self._environment)
        wait_until(self._answers, what="the sandbox's start")

    def kill(self) -> None:
        """Kill it as a power cut would: no handler of its own runs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=10)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the merchant's API (with the key) or any other path."""
        options.setdefault("timeout", 10)
        return self._session.request(method, self.url + path, **options)

    def pay(self, redirect_url: str, outcome: str, **fields: Any) -> requests.Response:
        """Decide a payment as the shopper."""
        return requests.post(redirect_url, json={"outcome": outcome, **fields}, timeout=10)

    def payment(self, reference: str) -> dict[str, Any]:
        return self.call("GET", f"/v1/payments/{reference}").json()

    def _answers(self) -> bool:
        try:
            return requests.get(self.url + "/healthz", timeout=2).ok
        except requests.RequestException:
            return False


@contextmanager
def running_sandbox(folder: Path, *, callback_url: str, **options: float) -> Iterator[RunningSandbox]:
    """Run a sandbox for a test, however often the test kills it."""
    sandbox = RunningSandbox(folder, callback_url=callback_url, **options)
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.end()


def delivery(
    reference: str,
    status: str,
    *,
    amount: str,
    currency: str = "GBP",
    event_id: str | None = None,
    account: str = "floodgate",
    secret: str = SECRET,
    at_s: float | None = None,
    **extra: Any,
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a callback, as the sandbox would send it."""
    subject = "refund" if reference.startswith("re_") else "payment"
    contents: dict[str, Any] = {"reference": reference, "status": status, "amount": amount, "currency": currency}
    if subject == "payment":
        contents["redirect_url"] = "http://127.0.0.1/pay/x"
    event = {
        "event_id": event_id or f"evt_{secrets.token_hex(8)}",
        "type": f"{subject}.{status}",
        "account": account,
        subject: contents,
        **extra,
    }
    body = json.dumps(event).encode()
    at_s = time.time() if at_s is None else at_s
    return body, {SIGNATURE_HEADER: signature_header(secret=secret, body=body, at_s=int(at_s))}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, what: str, within_s: float = 10.0) -> None:
    """Wait for something to become true; fails the test with its name when it does not."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.02)


# -- orders to be paid ------------------------------------------------------------------------------------------------


def unpaid_order(
    *, alias: str | None = None, total: str = "12.34", currency: str = "GBP", expires_in_s: float = 1800.0
) -> Order:
    """Write an order of a shopper of its own that waits for its payment, on a shard of choice."""
    user_id = shopper_id(alias)
    order_id = new_order_id(user_id)
    place, month = place_of_user(user_id), Month.of_id(order_id)
    order = Order.objects.model_for(month, alias=place.alias)(
        slot=place.slot,
        id=order_id,
        user_id=user_id,
        currency=currency,
        subtotal=Decimal(total),
        total=Decimal(total),
        expires_at=time_of(order_id) + timedelta(seconds=expires_in_s),
        updated_at=time_of(order_id),
    )
    order.save(using=place.alias, force_insert=True)
    OrderLine.objects.model_for(month, alias=place.alias)(
        slot=place.slot,
        order_id=order_id,
        line=1,
        sku="TEST-1",
        title="A thing",
        quantity=2,
        unit_price=Decimal(total) / 2,
        line_total=Decimal(total),
    ).save(using=place.alias, force_insert=True)
    return order


def shopper_id(alias: str | None = None) -> int:
    """Return a fresh user id, whose shard is `alias` if one is given."""
    while True:
        user_id = new_user_id()
        if alias is None or place_of_user(user_id).alias == alias:
            return user_id


def payment_request(order: Order, *, key: str | None = None, **fields: Any) -> PaymentRequest:
    """Return a request to pay an order, under a key of its own."""
    wanted = {"provider": "sandbox", **fields}
    return PaymentRequest(
        key=request_key(
            user_id=order.user_id,
            method="POST",
            path=f"/api/v1/orders/{order.id}/payments",
            key=key or secrets.token_hex(8),
            body=wanted,
        ),
        order_id=order.id,
        **wanted,
    )


def as_bytes(attempt: AttemptView) -> bytes:
    """Render an attempt as the answer that is kept under a key."""
    return attempt.payment_id.encode() + b" " + attempt.status.encode()


def start(order: Order, *, key: str | None = None, **fields: Any) -> AttemptView:
    """Start to pay an order; returns the attempt."""
    started = start_payment(payment_request(order, key=key, **fields), render=as_bytes, now=timezone.now())
    reference = parse_reference(started.body.split()[0].decode())
    attempt = get_attempt(order.id, reference.n)
    assert attempt is not None
    return attempt


def deliver(body: bytes, headers: dict[str, str]) -> str | None:
    """Hand a delivery to the use case, as the view does; header names without regard to case."""
    return receive_callback(provider="sandbox", headers=CaseInsensitiveDict(headers), raw_body=body, now=timezone.now())


def reload(order: Order) -> Order:
    """Return the order as it is now."""
    found = find_order(order.id)
    assert found is not None
    return found


def kinds_of(order: Order) -> list[str]:
    """Return the kinds of the order's events, oldest first."""
    rows = OrderEvent.objects.for_order(order.id).filter(order_id=order.id).order_by("version")
    return [row.kind for row in rows]


def open_attempt(order: Order | OrderView) -> AttemptView:
    """Write an attempt in state `pending` that no provider has heard of."""
    place, now = place_of_order(order.id), timezone.now()
    with place.atomic():
        row = lock_order(place, order.id)
        assert row is not None
        advance(place, row, changes={}, kind="payment_started", actor="shopper", detail="", now=now)
        return create_attempt(
            place,
            order_id=order.id,
            amount=Decimal(row.total),
            currency=order.currency,
            provider="sandbox",
            method="",
            return_url="",
            expires_at=None,
            now=now,
        )


def paid_order(
    items: Sequence[tuple[str, int]],
    *,
    shard: int | None = None,
    shipping_fee: str = "0.00",
    line_discounts: Sequence[str] = (),
) -> OrderView:
    """Place an order, with that much to ship and off its lines, and have the sandbox's word pay it.

    No provider is called.
    """
    placed = placed_order(make_buyer(shard=shard), items)
    place, month = place_of_order(placed.id), Month.of_id(placed.id)
    discount = sum(map(Decimal, line_discounts), Decimal(0))
    for number, each in enumerate(line_discounts, start=1):
        OrderLine.objects.at(place, month).filter(order_id=placed.id, line=number).update(discount=Decimal(each))
    Order.objects.at(place, month).filter(id=placed.id).update(
        discount=discount, shipping_fee=Decimal(shipping_fee), total=placed.subtotal - discount + Decimal(shipping_fee)
    )
    open_attempt(placed)
    record_payment_outcome(order_id=placed.id, n=1, outcome=PaymentOutcome(AttemptStatus.SUCCEEDED), now=timezone.now())
    sync_stock_of([placed.id], now=timezone.now())
    return get_order(user_id=placed.user_id, order_id=placed.id)


def send_some(order_id: int, fulfillment_status: str = "partial") -> None:
    """Move a paid order on, as if a part of it (or all) had left."""
    place = place_of_order(order_id)
    with place.atomic():
        order = lock_order(place, order_id)
        assert order is not None
        changes = {"fulfillment_status": fulfillment_status}
        advance(place, order, changes=changes, kind="sent", actor="warehouse", detail="", now=timezone.now())


def refund_request(
    order: OrderView, items: Sequence[tuple[str, int]], *, key: str | None = None, reason: str = "broken"
) -> RefundRequest:
    """Return a shopper's request for a refund, under a key of its own."""
    identity = request_key(
        user_id=order.user_id,
        method="POST",
        path=f"/api/v1/orders/{order.id}/refunds",
        key=key or secrets.token_hex(8),
        body=[list(item) for item in items],
    )
    return RefundRequest(key=identity, order_id=order.id, items=tuple(items), reason=reason)


def ask_refund(order: OrderView, *items: tuple[str, int], **fields: Any) -> RefundView:
    """Ask for a refund as the shopper; returns it."""
    requested = request_refund(
        refund_request(order, items, **fields), render=lambda refund: refund.refund_id.encode(), now=timezone.now()
    )
    reference = parse_reference(requested.body.decode())
    assert reference is not None
    refund = get_refund(order.id, reference.n)
    assert refund is not None
    return refund


def tell_refund(refund: RefundView, status: str, *, try_n: int = 1) -> str:
    """Have the provider's word about a refund recorded, as a poll would; returns what became of the refund."""
    change = record_refund_outcome(
        order_id=refund.order_id,
        n=refund.n,
        try_n=try_n,
        outcome=RefundOutcome(RefundStatus(status)),
        now=timezone.now(),
    )
    return str(change.after)
