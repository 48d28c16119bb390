"""The bank's books: payments, refunds and the callbacks they owe.

What time brings (a delayed outcome, a refund's end, a delivery) is found again by `settle_due` and `due_deliveries`.
"""

import json
import secrets
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from deploy.sandbox.books import Books, rfc3339
from deploy.sandbox.decoding import PaymentRequest, RefundRequest, ShopperChoice
from deploy.sandbox.errors import Conflict, UnknownReference

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payment (
    reference TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE, amount TEXT NOT NULL, currency TEXT NOT NULL,
    return_url TEXT NOT NULL, status TEXT NOT NULL, outcome TEXT, settle_at REAL, created_at REAL NOT NULL,
    captures_apart INTEGER NOT NULL DEFAULT 0, decided_at REAL
);
CREATE INDEX IF NOT EXISTS payment_due ON payment (settle_at) WHERE status = 'processing';
CREATE TABLE IF NOT EXISTS refund (
    reference TEXT PRIMARY KEY, payment_reference TEXT NOT NULL, amount TEXT NOT NULL, currency TEXT NOT NULL,
    status TEXT NOT NULL, settle_at REAL, created_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS refund_of_payment ON refund (payment_reference);
CREATE INDEX IF NOT EXISTS refund_due ON refund (settle_at) WHERE status = 'processing';
"""

_LATER_COLUMNS = {"captures_apart": "INTEGER NOT NULL DEFAULT 0", "decided_at": "REAL"}

_DAY_S = 86_400
_SETTLED_STATUS = {"succeed": "succeeded", "twice": "succeeded", "silent": "succeeded", "fail": "failed"}
_DELIVERY_COUNT = {"succeed": 1, "fail": 1, "twice": 2, "silent": 0}


class Bank(Books):
    """The books of one sandbox; see `books` for what they promise about threads and kills."""

    def __init__(
        self,
        path: Path,
        *,
        public_url: str,
        account: str,
        refund_duration_s: float,
        give_up_after_s: float,
    ) -> None:
        super().__init__(path, schema=_SCHEMA, give_up_after_s=give_up_after_s)
        self._public_url = public_url
        self._account = account
        self._refund_duration_s = refund_duration_s
        self._add_columns()

    def _add_columns(self) -> None:
        """Bring books of an earlier version up."""
        with self._transaction() as connection:
            known = {row["name"] for row in connection.execute("PRAGMA table_info(payment)")}
            for name, definition in _LATER_COLUMNS.items():
                if name not in known:
                    connection.execute(f"ALTER TABLE payment ADD COLUMN {name} {definition}")
            connection.execute("CREATE INDEX IF NOT EXISTS payment_decided ON payment (decided_at)")
            connection.execute("CREATE INDEX IF NOT EXISTS refund_settled ON refund (settle_at)")

    # -- merchant ---------------------------------------------------------------------------------------------

    def create_payment(self, request: PaymentRequest, *, now_s: float) -> dict[str, object]:
        """Open a payment; the same request again gets the same payment, another one under its reference Conflict."""
        with self._transaction() as connection:
            row = _payment(connection, request.reference)
            if row is None:
                connection.execute(
                    "INSERT INTO payment"
                    " (reference, token, amount, currency, return_url, status, created_at, captures_apart)"
                    " VALUES (?, ?, ?, ?, ?, 'requires_action', ?, ?)",
                    (
                        request.reference,
                        secrets.token_urlsafe(16),
                        request.amount,
                        request.currency,
                        request.return_url,
                        now_s,
                        request.captures_apart,
                    ),
                )
            elif (Decimal(row["amount"]), row["currency"]) != (Decimal(request.amount), request.currency):
                raise Conflict(f"{request.reference} exists with another amount or currency")
            return self._shown_payment(connection, request.reference)

    def fetch_payment(self, reference: str) -> dict[str, object]:
        """Return a payment as it stands; raises UnknownReference."""
        with self._transaction() as connection:
            return self._shown_payment(connection, reference)

    def capture_payment(self, reference: str, *, now_s: float) -> dict[str, object]:
        """Take the money that is held for a payment; one of which none is held is returned as it stands."""
        with self._transaction() as connection:
            captured = connection.execute(
                "UPDATE payment SET status = 'succeeded', decided_at = ? WHERE reference = ? AND status = 'authorized'",
                (now_s, reference),
            )
            shown = self._shown_payment(connection, reference)
            if captured.rowcount:
                self._owe(connection, self._event("payment.succeeded", {"payment": shown}, now_s), now_s)
            return shown

    def cancel_payment(self, reference: str) -> dict[str, object]:
        """Cancel a payment that is not paid, giving up what is held for it; any other is returned as it stands."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE payment SET status = 'cancelled'"
                " WHERE reference = ? AND status IN ('requires_action', 'authorized')",
                (reference,),
            )
            return self._shown_payment(connection, reference)

    def create_refund(self, request: RefundRequest, *, now_s: float) -> dict[str, object]:
        """Start to give money back, never more than was captured; idempotent by reference like `create_payment`."""
        with self._transaction() as connection:
            row = _refund(connection, request.reference)
            wanted = (request.payment_reference, Decimal(request.amount), request.currency)
            if row is not None:
                if (row["payment_reference"], Decimal(row["amount"]), row["currency"]) != wanted:
                    raise Conflict(f"{request.reference} exists with other contents")
                return _shown_refund(row)
            payment = _payment(connection, request.payment_reference)
            if payment is None:
                raise UnknownReference(f"no payment {request.payment_reference}")
            if payment["status"] != "succeeded" or payment["currency"] != request.currency:
                raise Conflict("only a payment that succeeded can be refunded, in its own currency")
            if _refunded(connection, payment["reference"]) + Decimal(request.amount) > Decimal(payment["amount"]):
                raise Conflict("more than was captured cannot be refunded")
            connection.execute(
                "INSERT INTO refund VALUES (?, ?, ?, ?, 'processing', ?, ?)",
                (
                    request.reference,
                    request.payment_reference,
                    request.amount,
                    request.currency,
                    now_s + self._refund_duration_s,
                    now_s,
                ),
            )
            return self._shown_existing_refund(connection, request.reference)

    def fetch_refund(self, reference: str) -> dict[str, object]:
        """Return a refund as it stands; raises UnknownReference."""
        with self._transaction() as connection:
            return self._shown_existing_refund(connection, reference)

    def settlement(self, day: date) -> list[tuple[str, str, str, str, str]]:
        """Return the lines of a day (UTC): kind, reference, amount, currency and time of all money that moved."""
        from_s = datetime.combine(day, datetime.min.time(), tzinfo=UTC).timestamp()
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT 'payment' AS kind, reference, amount, currency, decided_at AS at FROM payment"
                " WHERE status = 'succeeded' AND decided_at >= ? AND decided_at < ?"
                " UNION ALL SELECT 'refund', reference, amount, currency, settle_at FROM refund"
                " WHERE status = 'succeeded' AND settle_at >= ? AND settle_at < ? ORDER BY 5, 2",
                (from_s, from_s + _DAY_S) * 2,
            ).fetchall()
        return [(*tuple(row)[:4], rfc3339(row["at"])) for row in rows]

    # -- shopper ----------------------------------------------------------------------------------------------

    def find_page(self, token: str) -> dict[str, object]:
        """Return the payment behind a payment page's token; raises UnknownReference."""
        with self._transaction() as connection:
            return self._shown_payment(connection, _reference_of(connection, token))

    def choose(self, token: str, choice: ShopperChoice, *, now_s: float) -> dict[str, object]:
        """Let the shopper decide; the same choice again changes nothing, another one after the first is Conflict.

        A payment that the merchant cancelled can still be paid: at real providers a cancellation races with the
        shopper and may lose, and the sandbox is there to show such things.
        """
        with self._transaction() as connection:
            reference = _reference_of(connection, token)
            chosen = connection.execute(
                "UPDATE payment SET status = 'processing', outcome = ?, settle_at = ?"
                " WHERE reference = ? AND status IN ('requires_action', 'cancelled')",
                (choice.outcome, now_s + choice.delay_s, reference),
            )
            if chosen.rowcount == 0:
                row = connection.execute("SELECT outcome FROM payment WHERE reference = ?", (reference,)).fetchone()
                if row["outcome"] != choice.outcome:
                    raise Conflict(f"this payment was already decided: {row['outcome']}")
            elif choice.delay_s == 0:
                self._settle_payments(connection, now_s)
            return self._shown_payment(connection, reference)

    # -- time -------------------------------------------------------------------------------------------------

    def settle_due(self, *, now_s: float) -> None:
        """Settle all payments and refunds whose time has come, and note the callbacks that they owe."""
        with self._transaction() as connection:
            self._settle_payments(connection, now_s)
            self._settle_refunds(connection, now_s)

    def next_due_at(self) -> float | None:
        """Return when something happens next by itself, or None while nothing is pending."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT MIN(due_at) AS due_at FROM ("
                "SELECT MIN(settle_at) AS due_at FROM payment WHERE status = 'processing'"
                " UNION ALL SELECT MIN(settle_at) FROM refund WHERE status = 'processing'"
                " UNION ALL SELECT MIN(next_at) FROM delivery)"
            ).fetchone()
        return float(row["due_at"]) if row["due_at"] is not None else None

    # -- inside a transaction ---------------------------------------------------------------------------------

    def _settle_payments(self, connection: sqlite3.Connection, now_s: float) -> None:
        due = connection.execute(
            "SELECT reference, outcome, captures_apart FROM payment WHERE status = 'processing' AND settle_at <= ?",
            (now_s,),
        ).fetchall()
        for row in due:
            status = _SETTLED_STATUS[row["outcome"]]
            if status == "succeeded" and row["captures_apart"]:
                status = "authorized"
            connection.execute(
                "UPDATE payment SET status = ?, decided_at = ? WHERE reference = ?", (status, now_s, row["reference"])
            )
            shown = self._shown_payment(connection, row["reference"])
            event = self._event(f"payment.{status}", {"payment": shown}, now_s)
            for _ in range(_DELIVERY_COUNT[row["outcome"]]):
                self._owe(connection, event, now_s)

    def _settle_refunds(self, connection: sqlite3.Connection, now_s: float) -> None:
        due = connection.execute(
            "SELECT reference FROM refund WHERE status = 'processing' AND settle_at <= ?", (now_s,)
        ).fetchall()
        for row in due:
            connection.execute("UPDATE refund SET status = 'succeeded' WHERE reference = ?", (row["reference"],))
            shown = self._shown_existing_refund(connection, row["reference"])
            self._owe(connection, self._event("refund.succeeded", {"refund": shown}, now_s), now_s)

    def _event(self, type_: str, contents: dict[str, object], now_s: float) -> bytes:
        event = {
            "event_id": f"evt_{secrets.token_hex(12)}",
            "type": type_,
            "account": self._account,
            "created_at": rfc3339(now_s),
            **contents,
        }
        return json.dumps(event).encode()

    def _shown_payment(self, connection: sqlite3.Connection, reference: str) -> dict[str, object]:
        row = _payment(connection, reference)
        if row is None:
            raise UnknownReference(f"no payment {reference}")
        return {
            "reference": row["reference"],
            "status": row["status"],
            "amount": row["amount"],
            "currency": row["currency"],
            "account": self._account,
            "redirect_url": f"{self._public_url}/pay/{row['token']}",
            "return_url": row["return_url"],
            "refunded_amount": str(_refunded(connection, reference)),
            "created_at": rfc3339(row["created_at"]),
        }

    def _shown_existing_refund(self, connection: sqlite3.Connection, reference: str) -> dict[str, object]:
        row = _refund(connection, reference)
        if row is None:
            raise UnknownReference(f"no refund {reference}")
        return _shown_refund(row)


def _payment(connection: sqlite3.Connection, reference: str) -> Any:
    return connection.execute("SELECT * FROM payment WHERE reference = ?", (reference,)).fetchone()


def _refund(connection: sqlite3.Connection, reference: str) -> Any:
    return connection.execute("SELECT * FROM refund WHERE reference = ?", (reference,)).fetchone()


def _reference_of(connection: sqlite3.Connection, token: str) -> str:
    row = connection.execute("SELECT reference FROM payment WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise UnknownReference("no such payment page")
    return str(row["reference"])


def _refunded(connection: sqlite3.Connection, payment_reference: str) -> Decimal:
    rows = connection.execute("SELECT amount FROM refund WHERE payment_reference = ?", (payment_reference,))
    return sum((Decimal(row["amount"]) for row in rows), Decimal(0))


def _shown_refund(row: Any) -> dict[str, object]:
    return {
        "reference": row["reference"],
        "payment_reference": row["payment_reference"],
        "status": row["status"],
        "amount": row["amount"],
        "currency": row["currency"],
        "created_at": rfc3339(row["created_at"]),
    }
