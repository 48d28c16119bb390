"""The sandbox provider's client; the other side is `deploy/sandbox`, the protocol docs/payments.md."""

import csv
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

from apps.payments.domain import REFUND_WORDS, AttemptStatus, Money, RefundStatus
from apps.payments.errors import (
    CallbackMalformed,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    SignatureInvalid,
    UnknownAtProvider,
)
from apps.payments.types import (
    CallbackNotice,
    PaymentKey,
    PaymentOrder,
    PaymentOutcome,
    RefundOrder,
    RefundOutcome,
    SettlementEntry,
)
from infra.crypto.timed_signature import BadSignature, check_signature
from infra.resilience.breaker import Breaker, CircuitOpen

SIGNATURE_HEADER: Final = "Sandbox-Signature"
_EVENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ACCOUNT: Final = re.compile(r"[\x21-\x7e]{1,64}")
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")
# While the provider is down, requests fail at once instead of after their time limit; it is tried every few seconds.
_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_S: Final = 2.0
_CENT: Final = Decimal("0.01")


class SandboxProvider:
    """Talks to one sandbox; safe for threads and greenlets."""

    def __init__(
        self,
        *,
        name: str,
        account: str,
        url: str,
        secret: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        max_age_s: int,
        captures_apart: bool = False,
    ) -> None:
        self.name = name
        self.account = account
        self.captures_apart = captures_apart
        self._url = url.rstrip("/")
        self._secret = secret.encode()
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._max_age_s = max_age_s
        self._breaker = Breaker(
            f"payment provider {name}", failure_threshold=_BREAKER_FAILURES, reset_after_s=_BREAKER_RESET_S
        )
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the machine stands between us and the provider
        self._session.mount("http", HTTPAdapter(pool_connections=1, pool_maxsize=64))
        key = hmac.new(self._secret, b"merchant-api-key", hashlib.sha256).hexdigest()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def create_payment(self, order: PaymentOrder) -> PaymentOutcome:
        """Open a payment, or return it as it stands."""
        body = {
            "reference": order.reference,
            "amount": _amount_text(order.amount),
            "currency": order.currency,
            "return_url": order.return_url,
            "capture": "apart" if self.captures_apart else "at_once",
        }
        return self._payment("POST", "/v1/payments", body)

    def fetch_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Return a payment as it stands."""
        return self._payment("GET", f"/v1/payments/{payment.reference}")

    def capture_payment(self, payment: PaymentKey, money: Money) -> PaymentOutcome:
        """Take the money that is held; returns the payment as it stands then."""
        return self._payment("POST", f"/v1/payments/{payment.reference}/capture")

    def cancel_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Cancel a payment that is not decided, or whose money is only held; returns it as it stands then."""
        return self._payment("POST", f"/v1/payments/{payment.reference}/cancel")

    def create_refund(self, order: RefundOrder) -> RefundOutcome:
        """Give money back, or return the refund as it stands."""
        body = {
            "reference": order.reference,
            "payment_reference": order.payment.reference,
            "amount": _amount_text(order.amount),
            "currency": order.currency,
        }
        return self._refund("POST", "/v1/refunds", body)

    def fetch_refund(self, order: RefundOrder) -> RefundOutcome:
        """Return a refund as it stands."""
        return self._refund("GET", f"/v1/refunds/{order.reference}")

    def settlement(self, day: date) -> Iterator[SettlementEntry]:
        """Yield the lines of the settlement file of a day, in the order in which the money moved."""
        try:
            status, answer = self._breaker.call(self._download, f"/v1/settlements/{day.isoformat()}")
        except CircuitOpen as error:
            raise ProviderUnavailable("The payment provider has not answered for a while.") from error
        with answer:
            if status != 200:
                raise ProviderRefused(f"The payment provider answered {status}.")
            try:
                for row in csv.DictReader(answer.iter_lines(decode_unicode=True)):
                    yield SettlementEntry(
                        reference=row["reference"],
                        is_refund={"payment": False, "refund": True}[row["kind"]],
                        money=_money(row),
                        at=datetime.fromisoformat(row["at"]),
                    )
            except requests.RequestException as error:
                raise ProviderUnavailable("The payment provider cut its settlement file off.") from error
            except (LookupError, TypeError, ValueError, csv.Error) as error:
                raise ProviderUnavailable("The payment provider's settlement file is not understood.") from error

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> CallbackNotice:
        """Verify a delivery and read it. Raises SignatureInvalid, CallbackMalformed."""
        try:
            check_signature(
                headers.get(SIGNATURE_HEADER, ""), raw_body, secret=self._secret, max_age_s=self._max_age_s, now=now
            )
        except BadSignature as error:
            raise SignatureInvalid(f"{SIGNATURE_HEADER}: {error}") from error
        try:
            event = json.loads(raw_body)
            event_id, account, type_ = event["event_id"], event["account"], event["type"]
            subject, _, _ = type_.partition(".")
            contents = event[subject]
            reference = contents["reference"]
            if not (_EVENT_ID.fullmatch(event_id) and _ACCOUNT.fullmatch(account) and isinstance(reference, str)):
                raise CallbackMalformed("Event id, account or reference are not what they should be.")
            outcome: PaymentOutcome | RefundOutcome
            if subject == "payment":
                outcome = _payment_outcome(contents)
            elif subject == "refund":
                outcome = _refund_outcome(contents)
            else:
                raise CallbackMalformed("The event is about neither a payment nor a refund.")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CallbackMalformed("The body is not a callback of this provider.") from error
        return CallbackNotice(
            provider=self.name,
            account=account,
            event_id=event_id,
            reference=reference,
            outcome=outcome,
            raw_body=raw_body,
        )

    def _payment(self, method: str, path: str, body: Mapping[str, object] | None = None) -> PaymentOutcome:
        answer = self._call(method, path, body)
        try:
            return _payment_outcome(answer)
        except (LookupError, TypeError, ValueError) as error:
            raise ProviderUnavailable("The payment provider's answer is not understood.") from error

    def _refund(self, method: str, path: str, body: Mapping[str, object] | None = None) -> RefundOutcome:
        answer = self._call(method, path, body)
        try:
            return _refund_outcome(answer)
        except (LookupError, TypeError, ValueError) as error:
            raise ProviderUnavailable("The payment provider's answer is not understood.") from error

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Call the provider through the breaker; a refusal is an answer, so only silence and 5xx open it."""
        try:
            status, answer = self._breaker.call(self._exchange, method, path, body)
        except CircuitOpen as error:
            raise ProviderUnavailable("The payment provider has not answered for a while.") from error
        if status == 404:
            raise UnknownAtProvider(str(answer))
        if status >= 300:
            raise ProviderRefused(str(answer))
        return answer

    def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, Any]:
        try:
            response = self._session.request(
                method, self._url + path, json=body, timeout=self._timeout, allow_redirects=False
            )
            answer = response.json()
        except requests.Timeout as error:
            raise ProviderTimeout("The payment provider did not answer in time.") from error
        except requests.RequestException as error:  # an answer that is not JSON, too
            raise ProviderUnavailable("The payment provider cannot be reached.") from error
        if response.status_code in (401, 429) or response.status_code >= 500:
            raise ProviderUnavailable(f"The payment provider answered {response.status_code}.")
        return response.status_code, answer

    def _download(self, path: str) -> tuple[int, requests.Response]:
        """Begin to read a file, whose lines come one after another, each within the time limit."""
        try:
            response = self._session.get(self._url + path, timeout=self._timeout, allow_redirects=False, stream=True)
        except requests.Timeout as error:
            raise ProviderTimeout("The payment provider did not answer in time.") from error
        except requests.RequestException as error:
            raise ProviderUnavailable("The payment provider cannot be reached.") from error
        if response.status_code in (401, 429) or response.status_code >= 500:
            raise ProviderUnavailable(f"The payment provider answered {response.status_code}.")
        return response.status_code, response


def _amount_text(amount: Decimal) -> str:
    """Write an amount with two decimals, or with more where it has more."""
    return str(amount.quantize(_CENT)) if amount == amount.quantize(_CENT) else f"{amount.normalize():f}"


def _payment_outcome(answer: Any) -> PaymentOutcome:
    """Read a payment; raises LookupError, TypeError or ValueError for anything else."""
    return PaymentOutcome(
        status=AttemptStatus(answer["status"]), money=_money(answer), redirect_url=str(answer["redirect_url"])
    )


def _refund_outcome(answer: Any) -> RefundOutcome:
    """Read a refund; raises LookupError, TypeError or ValueError for anything else."""
    status = RefundStatus(answer["status"])
    if status not in REFUND_WORDS:
        raise ValueError(f"{status} is no provider's word")
    return RefundOutcome(status=status, money=_money(answer))


def _money(answer: Any) -> Money:
    amount, currency = answer["amount"], answer["currency"]
    if not (isinstance(amount, str) and _AMOUNT.fullmatch(amount) and isinstance(currency, str)):
        raise ValueError("an amount is a decimal string")
    return Money(Decimal(amount), currency)
