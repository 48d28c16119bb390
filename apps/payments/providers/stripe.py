"""Stripe, by its own library: Checkout Sessions, which take the shopper through whatever their card's bank asks for.

A session carries our reference, and so do its PaymentIntent and each refund. Every write has an idempotency key made of
the reference, which Stripe honours for a day; refunds are found by their reference beyond that. The endpoint for
callbacks is set up at Stripe for `checkout.session.*`, `payment_intent.*` and `refund.*`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

import requests
import stripe

from apps.payments.domain import AttemptStatus, Money, RefundStatus
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
from infra.resilience.breaker import Breaker, CircuitOpen

_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_S: Final = 2.0
# https://docs.stripe.com/currencies: not ISO 4217 throughout.
_NO_DECIMALS: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THREE_DECIMALS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,64}")
_EVENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_PAGE: Final = 100

_INTENTS: Final[Mapping[str, AttemptStatus]] = {
    "requires_payment_method": AttemptStatus.REQUIRES_ACTION,
    "requires_confirmation": AttemptStatus.REQUIRES_ACTION,
    "requires_action": AttemptStatus.REQUIRES_ACTION,
    "processing": AttemptStatus.PROCESSING,
    "requires_capture": AttemptStatus.AUTHORIZED,
    "succeeded": AttemptStatus.SUCCEEDED,
    "canceled": AttemptStatus.CANCELLED,
}
_REFUNDS: Final[Mapping[str, RefundStatus]] = {
    "pending": RefundStatus.PROCESSING,
    "requires_action": RefundStatus.PROCESSING,
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}


class StripeProvider:
    """Talks to one Stripe account; safe for threads and greenlets."""

    def __init__(
        self,
        *,
        name: str,
        account: str,
        api_key: str,
        webhook_secret: str,
        return_url: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        max_age_s: int,
        captures_apart: bool = False,
        url: str = "https://api.stripe.com",
    ) -> None:
        self.name = name
        self.account = account
        self.captures_apart = captures_apart
        self._webhook_secret = webhook_secret
        self._return_url = return_url
        self._max_age_s = max_age_s
        self._breaker = Breaker(
            f"payment provider {name}", failure_threshold=_BREAKER_FAILURES, reset_after_s=_BREAKER_RESET_S
        )
        session = requests.Session()
        session.trust_env = False  # no proxy of the machine stands between us and the provider
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": url},
            http_client=stripe.RequestsClient(timeout=(connect_timeout_s, read_timeout_s), session=session),
            max_network_retries=0,  # the poll and the client's key come again
        )

    def create_payment(self, order: PaymentOrder) -> PaymentOutcome:
        """Open a session, or return it as it stands."""
        unit_amount = _minor_units(order.amount, order.currency)
        back = order.return_url or self._return_url
        session = self._call(
            lambda: self._client.v1.checkout.sessions.create(
                {
                    "mode": "payment",
                    "client_reference_id": order.reference,
                    "metadata": {"reference": order.reference},
                    "payment_intent_data": {
                        "metadata": {"reference": order.reference},
                        "capture_method": "manual" if self.captures_apart else "automatic",
                    },
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": order.currency.lower(),
                                "unit_amount": unit_amount,
                                "product_data": {"name": order.reference},
                            },
                        }
                    ],
                    "success_url": back,
                    "cancel_url": back,
                    "expand": ["payment_intent"],
                },
                {"idempotency_key": order.reference},
            )
        )
        return _session_outcome(session)

    def fetch_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Return a payment as it stands."""
        return _session_outcome(self._session(payment))

    def capture_payment(self, payment: PaymentKey, money: Money) -> PaymentOutcome:
        """Take the money that is held, all of it; returns the payment as it stands then."""
        intent_id = _intent_id(self._session(payment))
        try:
            self._call(
                lambda: self._client.v1.payment_intents.capture(
                    intent_id,
                    {"amount_to_capture": _minor_units(money.amount, money.currency)},
                    {"idempotency_key": f"{payment.reference}:capture"},
                )
            )
        except UnknownAtProvider:
            raise
        except ProviderRefused:
            pass  # it was captured, or given up: how it stands tells
        return self.fetch_payment(payment)

    def cancel_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """End a session that nobody has paid, or give up the money that is held; returns it as it stands then."""
        session = self._session(payment)
        outcome = _session_outcome(session)
        try:
            if session["status"] == "open":
                self._call(lambda: self._client.v1.checkout.sessions.expire(session["id"]))
            elif outcome.status == AttemptStatus.AUTHORIZED:
                intent_id = _intent_id(session)
                self._call(lambda: self._client.v1.payment_intents.cancel(intent_id))
            else:
                return outcome
        except UnknownAtProvider:
            raise
        except ProviderRefused:
            pass  # the shopper was faster: how it stands tells
        return self.fetch_payment(payment)

    def create_refund(self, order: RefundOrder) -> RefundOutcome:
        """Give money back, or return the refund as it stands."""
        intent_id = _intent_id(self._session(order.payment))
        known = self._refund_of(intent_id, order.reference)
        if known is not None:
            return _refund_outcome(known)
        refund = self._call(
            lambda: self._client.v1.refunds.create(
                {
                    "payment_intent": intent_id,
                    "amount": _minor_units(order.amount, order.currency),
                    "metadata": {"reference": order.reference},
                },
                {"idempotency_key": order.reference},
            )
        )
        return _refund_outcome(refund)

    def fetch_refund(self, order: RefundOrder) -> RefundOutcome:
        """Return a refund as it stands."""
        refund = self._refund_of(_intent_id(self._session(order.payment)), order.reference)
        if refund is None:
            raise UnknownAtProvider(order.reference)
        return _refund_outcome(refund)

    def settlement(self, day: date) -> Iterator[SettlementEntry]:
        """Yield the charges and refunds of a day, as Stripe lists them: the newest first."""
        from_ = datetime.combine(day, time.min, tzinfo=UTC)
        created = {"gte": int(from_.timestamp()), "lt": int((from_ + timedelta(days=1)).timestamp())}
        for kinds, is_refund in ((("charge", "payment"), False), (("refund", "payment_refund"), True)):
            for kind in kinds:
                yield from self._transactions({"created": created, "type": kind}, is_refund=is_refund)

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> CallbackNotice:
        """Verify a delivery and read it; the library judges its age by the clock."""
        try:
            body = raw_body.decode()
        except UnicodeDecodeError as error:
            raise SignatureInvalid("The body is not text.") from error
        try:
            stripe.WebhookSignature.verify_header(
                body, headers.get("Stripe-Signature", ""), self._webhook_secret, self._max_age_s
            )
        except stripe.SignatureVerificationError as error:
            raise SignatureInvalid("The signature does not match the body, or is stale.") from error
        try:
            event = json.loads(body)
            contents = event["data"]["object"]
            kind, reference = contents["object"], contents["metadata"]["reference"]
            outcome: PaymentOutcome | RefundOutcome = _READERS[kind](contents)
            event_id, account = event["id"], event.get("account") or self.account
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CallbackMalformed("The event is about none of our payments and refunds.") from error
        if not (_EVENT_ID.fullmatch(str(event_id)) and _REFERENCE.fullmatch(str(reference))):
            raise CallbackMalformed("Event id or reference are not what they should be.")
        return CallbackNotice(
            provider=self.name,
            account=str(account),
            event_id=str(event_id),
            reference=str(reference),
            outcome=outcome,
            raw_body=raw_body,
        )

    # -- parts --------------------------------------------------------------------------------------------------

    def _session(self, payment: PaymentKey) -> Any:
        if not payment.provider_id:
            raise UnknownAtProvider(payment.reference)
        return self._call(
            lambda: self._client.v1.checkout.sessions.retrieve(payment.provider_id, {"expand": ["payment_intent"]})
        )

    def _refund_of(self, intent_id: str, reference: str) -> Any:
        """Return the refund of a payment that has our reference, or None; a payment has few."""
        refunds = self._call(lambda: self._client.v1.refunds.list({"payment_intent": intent_id, "limit": _PAGE}))
        found = [each for each in refunds["data"] if (each["metadata"] or {}).get("reference") == reference]
        return found[0] if found else None

    def _transactions(self, query: Mapping[str, Any], *, is_refund: bool) -> Iterator[SettlementEntry]:
        after: dict[str, str] = {}
        while True:
            wanted: Any = {**query, **after, "limit": _PAGE, "expand": ["data.source"]}
            page = self._call(partial(self._client.v1.balance_transactions.list, wanted))
            for each in page["data"]:
                metadata = each["source"]["metadata"] or {}
                yield SettlementEntry(
                    reference=str(metadata.get("reference") or each["id"]),
                    is_refund=is_refund,
                    money=_money(abs(each["source"]["amount"]), each["source"]["currency"]),
                    at=datetime.fromtimestamp(each["created"], UTC),
                )
            if not page["has_more"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    def _call(self, ask: Callable[[], stripe.StripeObject]) -> dict[str, Any]:
        """Ask through the breaker; a refusal is an answer, so only silence and Stripe's own errors open it."""
        try:
            answer = self._breaker.call(_answer_of, ask)
        except CircuitOpen as error:
            raise ProviderUnavailable("The payment provider has not answered for a while.") from error
        if isinstance(answer, stripe.StripeError):
            if answer.code == "resource_missing":
                raise UnknownAtProvider(str(answer)) from answer
            raise ProviderRefused(str(answer)) from answer
        return answer.to_dict()


def _answer_of(ask: Callable[[], stripe.StripeObject]) -> stripe.StripeObject | stripe.StripeError:
    """Return the answer or the refusal; raises ProviderTimeout or ProviderUnavailable where there is neither."""
    try:
        return ask()
    except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as refusal:
        return refusal
    except stripe.APIConnectionError as error:
        if isinstance(error.__cause__, requests.Timeout):
            raise ProviderTimeout("The payment provider did not answer in time.") from error
        raise ProviderUnavailable("The payment provider cannot be reached.") from error
    except stripe.StripeError as error:
        raise ProviderUnavailable(f"The payment provider failed: {type(error).__name__}.") from error


def _session_outcome(session: Any) -> PaymentOutcome:
    """Read a session; its PaymentIntent, where there is one and it is expanded, knows more."""
    intent = session["payment_intent"]
    known = None if intent is None or isinstance(intent, str) else _INTENTS.get(intent["status"])
    if session["status"] == "expired":
        status = AttemptStatus.CANCELLED
    elif session["status"] == "open":
        status = AttemptStatus.REQUIRES_ACTION
    elif known is not None:
        status = known
    else:
        status = AttemptStatus.SUCCEEDED if session["payment_status"] == "paid" else AttemptStatus.PROCESSING
    return PaymentOutcome(
        status=status,
        money=_money(session["amount_total"], session["currency"]),
        redirect_url=session["url"] or "",
        provider_id=session["id"],
    )


def _intent_outcome(intent: Any) -> PaymentOutcome:
    return PaymentOutcome(status=_INTENTS[intent["status"]], money=_money(intent["amount"], intent["currency"]))


def _refund_outcome(refund: Any) -> RefundOutcome:
    return RefundOutcome(status=_REFUNDS[refund["status"]], money=_money(refund["amount"], refund["currency"]))


_READERS: Final[Mapping[str, Callable[[Any], PaymentOutcome | RefundOutcome]]] = {
    "checkout.session": _session_outcome,
    "payment_intent": _intent_outcome,
    "refund": _refund_outcome,
}


def _intent_id(session: Any) -> str:
    intent = session["payment_intent"]
    if intent is None:
        raise ProviderRefused("nobody has begun to pay this session")
    return str(intent if isinstance(intent, str) else intent["id"])


def _decimals(currency: str) -> int:
    if currency in _NO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2


def _minor_units(amount: Decimal, currency: str) -> int:
    units = amount.scaleb(_decimals(currency))
    if units != int(units):
        raise ProviderRefused(f"{amount} is finer than what can be paid in {currency}")
    return int(units)


def _money(minor_units: int, currency: str) -> Money:
    code = currency.upper()
    return Money(Decimal(minor_units).scaleb(-_decimals(code)), code)
