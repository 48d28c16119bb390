"""A server in the test's process that speaks Stripe's protocol: its requests, objects, errors and signature."""

import hashlib
import hmac
import json
import secrets
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

API_KEY = "sk_test_of_the_tests_only"
WEBHOOK_SECRET = "whsec_of_the_tests_only"


class StripeServer:
    """The account's objects, as Stripe would keep them; `status` makes every answer fail, `delay_s` slow."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.transactions: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.status, self.delay_s = 200, 0.0
        self._answers: dict[str, tuple[dict[str, str], tuple[int, dict[str, Any]]]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                url = urlsplit(self.path)
                form = dict(parse_qsl(body or url.query))
                key = self.headers.get("Idempotency-Key", "")
                server.requests.append((self.command, url.path, form, key))
                time.sleep(server.delay_s)
                status, answer = server.answer(self.command, url.path, form, key, self.headers["Authorization"])
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                with suppress(ConnectionError):  # the client has given up by then
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    # -- what the shopper and time do ---------------------------------------------------------------------------

    def pay(self, session_id: str) -> None:
        """Confirm a session as its shopper does: paid, or held where it is captured apart."""
        session = self.sessions[session_id]
        apart = session["_form"]["payment_intent_data[capture_method]"] == "manual"
        intent = {
            "id": f"pi_{secrets.token_hex(6)}",
            "object": "payment_intent",
            "status": "requires_capture" if apart else "succeeded",
            "amount": session["amount_total"],
            "currency": session["currency"],
            "metadata": {"reference": session["_form"]["payment_intent_data[metadata][reference]"]},
        }
        self.intents[intent["id"]] = intent
        session.update(status="complete", payment_status="unpaid" if apart else "paid", url=None)
        session["payment_intent"] = intent["id"]
        if not apart:
            self._charge(intent)

    def settle_refunds(self, status: str = "succeeded") -> None:
        """End the refunds that are under way."""
        for refund in self.refunds.values():
            if refund["status"] == "pending":
                refund["status"] = status

    # -- Stripe's own API ---------------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, form: dict[str, str], key: str, authorization: str
    ) -> tuple[int, dict[str, Any]]:
        if authorization != f"Bearer {API_KEY}":
            return _error(401, "invalid_request_error", "", "Invalid API Key provided")
        if self.status != 200:
            return _error(self.status, "api_error", "", "An error occurred")
        if method == "POST" and key in self._answers:
            first_form, first = self._answers[key]
            return first if first_form == form else _error(400, "idempotency_error", "", "Keys for idempotent requests")
        answered = self._route(method, path.removeprefix("/v1/").split("/"), form)
        if method == "POST" and key:
            self._answers[key] = form, answered
        return answered

    def _route(self, method: str, parts: list[str], form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        match method, parts:
            case "POST", ["checkout", "sessions"]:
                return 200, self._shown(self._new_session(form))
            case "GET", ["checkout", "sessions", name] if name in self.sessions:
                return 200, self._shown(self.sessions[name])
            case "POST", ["checkout", "sessions", name, "expire"] if name in self.sessions:
                if self.sessions[name]["status"] != "open":
                    return _error(400, "invalid_request_error", "", "Only open sessions can be expired")
                self.sessions[name].update(status="expired", url=None)
                return 200, self._shown(self.sessions[name])
            case "POST", ["payment_intents", name, action] if name in self.intents:
                intent = self.intents[name]
                if intent["status"] != "requires_capture":
                    return _error(400, "invalid_request_error", "payment_intent_unexpected_state", "not capturable")
                intent["status"] = "succeeded" if action == "capture" else "canceled"
                if action == "capture":
                    self._charge(intent)
                return 200, intent
            case "POST", ["refunds"]:
                return self._new_refund(form)
            case "GET", ["refunds"]:
                found = [each for each in self.refunds.values() if each["payment_intent"] == form["payment_intent"]]
                return 200, {"object": "list", "data": found, "has_more": False, "url": "/v1/refunds"}
            case "GET", ["balance_transactions"]:
                return 200, self._listed(form)
        return _error(404, "invalid_request_error", "resource_missing", f"No such object: {'/'.join(parts)}")

    def _new_session(self, form: dict[str, str]) -> dict[str, Any]:
        name = f"cs_test_{secrets.token_hex(8)}"
        self.sessions[name] = {
            "id": name,
            "object": "checkout.session",
            "status": "open",
            "payment_status": "unpaid",
            "amount_total": int(form["line_items[0][price_data][unit_amount]"]),
            "currency": form["line_items[0][price_data][currency]"],
            "url": f"https://checkout.stripe.com/c/pay/{name}",
            "payment_intent": None,
            "client_reference_id": form["client_reference_id"],
            "metadata": {"reference": form["metadata[reference]"]},
            "_form": form,
        }
        return self.sessions[name]

    def _shown(self, session: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in session.items() if name != "_form"}
        return {**shown, "payment_intent": self.intents.get(session["payment_intent"] or "")}

    def _new_refund(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        intent = self.intents[form["payment_intent"]]
        before = sum(each["amount"] for each in self.refunds.values() if each["payment_intent"] == intent["id"])
        if before + int(form["amount"]) > intent["amount"]:
            return _error(400, "invalid_request_error", "charge_already_refunded", "greater than unrefunded amount")
        name = f"re_{secrets.token_hex(6)}"
        self.refunds[name] = {
            "id": name,
            "object": "refund",
            "status": "pending",
            "amount": int(form["amount"]),
            "currency": intent["currency"],
            "payment_intent": intent["id"],
            "metadata": {"reference": form["metadata[reference]"]},
        }
        self._record("refund", self.refunds[name])
        return 200, self.refunds[name]

    def _charge(self, intent: dict[str, Any]) -> None:
        charge = {"id": f"ch_{secrets.token_hex(6)}", "object": "charge", **{n: intent[n] for n in _OF_A_CHARGE}}
        self._record("charge", charge)

    def _record(self, kind: str, source: dict[str, Any]) -> None:
        number = len(self.transactions)
        entry = {"id": f"txn_{number}", "object": "balance_transaction", "type": kind, "created": int(time.time())}
        self.transactions.append({**entry, "source": source})

    def _listed(self, form: dict[str, str]) -> dict[str, Any]:
        from_, to = int(form["created[gte]"]), int(form["created[lt]"])
        newest = [each for each in reversed(self.transactions) if each["type"] == form["type"]]
        found = [each for each in newest if from_ <= each["created"] < to]
        if after := form.get("starting_after"):
            found = found[[each["id"] for each in found].index(after) + 1 :]
        return {"object": "list", "data": found[:2], "has_more": len(found) > 2, "url": "/v1/balance_transactions"}


_OF_A_CHARGE = ("amount", "currency", "metadata")


def _error(status: int, kind: str, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"type": kind, "code": code or None, "message": message}}


def stripe_event(
    contents: dict[str, Any],
    kind: str,
    *,
    event_id: str | None = None,
    secret: str = WEBHOOK_SECRET,
    at_s: float | None = None,
    **extra: Any,
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a delivery, signed as https://docs.stripe.com/webhooks#verify-manually says."""
    shown = {name: value for name, value in contents.items() if not name.startswith("_")}
    event = {
        "id": event_id or f"evt_{secrets.token_hex(8)}",
        "object": "event",
        "type": kind,
        "data": {"object": shown},
        **extra,
    }
    body = json.dumps(event).encode()
    at = int(time.time() if at_s is None else at_s)
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={at},v1={signature}"}
