"""WeChat Pay (API v3), by the library `wechatpayv3`: a code that the shopper scans (Native), paid in CNY.

WeChat goes by our references throughout, so its own ids need not be kept. Its answers and deliveries are signed with
the key that WeChat Pay gives a merchant (`public_key_id`), and what a delivery tells is encrypted with the merchant's
APIv3 key.
"""

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, TypeVar

import requests
from wechatpayv3 import WeChatPay, WeChatPayType

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

T = TypeVar("T")

_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_S: Final = 2.0
_CURRENCY: Final = "CNY"
_ALGORITHM: Final = "WECHATPAY2-SHA256-RSA2048"
_EVENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_BEIJING: Final = timezone(timedelta(hours=8))
# Refusals of an opening that say how the payment stands: paid, closed, or opened before.
_STANDS_ALREADY: Final = frozenset({"ORDERPAID", "ORDER_CLOSED", "OUT_TRADE_NO_USED"})
_UNKNOWN: Final = frozenset({"ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"})

_TRADES: Final[Mapping[str, AttemptStatus]] = {
    "NOTPAY": AttemptStatus.REQUIRES_ACTION,
    "USERPAYING": AttemptStatus.PROCESSING,
    "SUCCESS": AttemptStatus.SUCCEEDED,
    "REFUND": AttemptStatus.SUCCEEDED,
    "CLOSED": AttemptStatus.CANCELLED,
    "REVOKED": AttemptStatus.CANCELLED,
    "PAYERROR": AttemptStatus.FAILED,
}
_REFUNDS: Final[Mapping[str, RefundStatus]] = {
    "PROCESSING": RefundStatus.PROCESSING,
    "SUCCESS": RefundStatus.SUCCEEDED,
    "CLOSED": RefundStatus.FAILED,
    "ABNORMAL": RefundStatus.FAILED,
}


class WeChatProvider:
    """Talks to one merchant account; safe for threads and greenlets."""

    captures_apart = False

    def __init__(
        self,
        *,
        name: str,
        account: str,
        app_id: str,
        api_v3_key: str,
        private_key: str,
        certificate_serial: str,
        public_key: str,
        public_key_id: str,
        notify_url: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        max_age_s: int,
        url: str = "",
    ) -> None:
        self.name = name
        self.account = account
        self._public_key_id = public_key_id
        self._max_age_s = max_age_s
        self._breaker = Breaker(
            f"payment provider {name}", failure_threshold=_BREAKER_FAILURES, reset_after_s=_BREAKER_RESET_S
        )
        self._client = WeChatPay(
            wechatpay_type=WeChatPayType.NATIVE,
            mchid=account,
            private_key=private_key,
            cert_serial_no=certificate_serial,
            appid=app_id,
            apiv3_key=api_v3_key,
            notify_url=notify_url,
            timeout=(connect_timeout_s, read_timeout_s),
            proxy={"http": None, "https": None},  # no proxy of the machine stands between us and the provider
            public_key=public_key,
            public_key_id=public_key_id,
        )
        if url:
            self._client._core._gate_way = url  # the library has no option for it

    def create_payment(self, order: PaymentOrder) -> PaymentOutcome:
        """Open a payment, or return it as it stands."""
        if order.currency != _CURRENCY:
            raise ProviderRefused(f"WeChat Pay takes {_CURRENCY}, not {order.currency}")
        amount = {"total": _fen(order.amount), "currency": _CURRENCY}
        status, answer = self._call(
            lambda: self._client.pay(description=order.reference, out_trade_no=order.reference, amount=amount)
        )
        if status != 200 and answer.get("code") in _STANDS_ALREADY:
            return self.fetch_payment(PaymentKey(order.reference))
        _check(status, answer)
        return PaymentOutcome(
            AttemptStatus.REQUIRES_ACTION, Money(order.amount, order.currency), str(answer.get("code_url", ""))
        )

    def fetch_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Return a payment as it stands."""
        return _read(_trade_outcome, self._trade(payment))

    def capture_payment(self, payment: PaymentKey, money: Money) -> PaymentOutcome:
        """Return the payment as it stands: WeChat takes the money at once."""
        return self.fetch_payment(payment)

    def cancel_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Close a payment that nobody has paid; returns it as it stands then."""
        status, answer = self._call(lambda: self._client.close(payment.reference))
        if answer.get("code") in _UNKNOWN:
            _check(status, answer)
        return self.fetch_payment(payment)

    def create_refund(self, order: RefundOrder) -> RefundOutcome:
        """Give money back, or return the refund as it stands; WeChat wants to hear what was paid, too."""
        paid = _read(lambda trade: int(trade["amount"]["total"]), self._trade(order.payment))
        amount = {"refund": _fen(order.amount), "total": paid, "currency": _CURRENCY}
        status, answer = self._call(
            lambda: self._client.refund(
                out_refund_no=order.reference, out_trade_no=order.payment.reference, amount=amount
            )
        )
        _check(status, answer)
        return _read(_refund_outcome, answer)

    def fetch_refund(self, order: RefundOrder) -> RefundOutcome:
        """Return a refund as it stands."""
        status, answer = self._call(lambda: self._client.query_refund(order.reference))
        _check(status, answer)
        return _read(_refund_outcome, answer)

    def settlement(self, day: date) -> Iterator[SettlementEntry]:
        """Yield the lines of a day's bill; the day is Beijing's, and its bill is there from the next morning on."""
        status, answer = self._call(lambda: self._client.trade_bill(bill_date=day.isoformat()))
        _check(status, answer)
        status, content = self._call(lambda: self._client.download_bill(answer["download_url"]), is_file=True)
        if status != 200:
            raise ProviderUnavailable(f"The payment provider answered {status}.")
        for row in csv.DictReader(gzip.decompress(content).decode("utf-8-sig").splitlines()):
            if (values := _bill_values(row)) is not None:
                yield from _entries(values)

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> CallbackNotice:
        """Verify a delivery, decrypt what it tells and read it."""
        at = headers.get("Wechatpay-Timestamp", "")
        known_key = headers.get("Wechatpay-Serial", "") == self._public_key_id
        if not known_key or headers.get("Wechatpay-Signature-Type", "") != _ALGORITHM:
            raise SignatureInvalid("The signature is missing, or of another key or kind.")
        if not (at.isascii() and at.isdigit()) or abs(now.timestamp() - int(at[:12])) > self._max_age_s:
            raise SignatureInvalid("The signature is stale.")
        names = ("Wechatpay-Signature", "Wechatpay-Signature-Type", "Wechatpay-Timestamp", "Wechatpay-Nonce")
        signed = {name: headers.get(name, "") for name in (*names, "Wechatpay-Serial")}
        try:
            event = self._client.callback(signed, raw_body.decode())
        except UnicodeDecodeError as error:
            raise SignatureInvalid("The body is not text.") from error
        except Exception as error:  # signed, and neither JSON nor encrypted as agreed; the library raises all kinds
            raise CallbackMalformed("The delivery cannot be read.") from error
        if event is None:
            raise SignatureInvalid("The signature or the encryption is not the provider's.")
        try:
            contents, event_id = event["resource"], event["id"]
            outcome: PaymentOutcome | RefundOutcome
            if "out_refund_no" in contents:
                reference, outcome = contents["out_refund_no"], _told_refund(contents)
            else:
                reference, outcome = contents["out_trade_no"], _trade_outcome(contents)
            account = contents["mchid"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CallbackMalformed("The delivery is about none of our payments and refunds.") from error
        if not (_EVENT_ID.fullmatch(str(event_id)) and isinstance(reference, str) and len(str(account)) <= 64):
            raise CallbackMalformed("Event id, account or reference are not what they should be.")
        return CallbackNotice(
            provider=self.name,
            account=str(account),
            event_id=str(event_id),
            reference=reference,
            outcome=outcome,
            raw_body=raw_body,
        )

    # -- parts --------------------------------------------------------------------------------------------------

    def _trade(self, payment: PaymentKey) -> dict[str, Any]:
        status, answer = self._call(lambda: self._client.query(out_trade_no=payment.reference))
        _check(status, answer)
        return answer

    def _call(self, ask: Callable[[], tuple[int, Any]], *, is_file: bool = False) -> tuple[int, Any]:
        """Ask through the breaker; a refusal is an answer, so only silence and 5xx open it."""
        try:
            status, content = self._breaker.call(_answer_of, ask)
        except CircuitOpen as error:
            raise ProviderUnavailable("The payment provider has not answered for a while.") from error
        if is_file:
            return status, content
        try:
            answer = json.loads(content) if content else {}
        except ValueError as error:
            raise ProviderUnavailable("The payment provider's answer is not understood.") from error
        return status, answer if isinstance(answer, dict) else {}


def _answer_of(ask: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
    try:
        status, content = ask()
    except requests.Timeout as error:
        raise ProviderTimeout("The payment provider did not answer in time.") from error
    except requests.RequestException as error:
        raise ProviderUnavailable("The payment provider cannot be reached.") from error
    except Exception as error:  # a signature that is wrong; the library raises nothing narrower
        raise ProviderUnavailable("The payment provider's answer is not signed by it.") from error
    if status in (401, 403, 429) or status >= 500:
        raise ProviderUnavailable(f"The payment provider answered {status}.")
    return status, content


def _check(status: int, answer: Mapping[str, Any]) -> None:
    if status in (200, 202, 204):
        return
    code = str(answer.get("code", ""))
    raise (UnknownAtProvider if status == 404 or code in _UNKNOWN else ProviderRefused)(f"{status} {code}")


def _read(read: Callable[[Mapping[str, Any]], T], answer: Mapping[str, Any]) -> T:
    try:
        return read(answer)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ProviderUnavailable("The payment provider's answer is not understood.") from error


def _trade_outcome(trade: Mapping[str, Any]) -> PaymentOutcome:
    amount = trade.get("amount") or {}
    money = _money(amount["total"], amount.get("currency", _CURRENCY)) if "total" in amount else None
    return PaymentOutcome(_TRADES[trade["trade_state"]], money)


def _refund_outcome(refund: Mapping[str, Any]) -> RefundOutcome:
    return RefundOutcome(_REFUNDS[refund["status"]], _money(refund["amount"]["refund"], _CURRENCY))


def _told_refund(refund: Mapping[str, Any]) -> RefundOutcome:
    return RefundOutcome(_REFUNDS[refund["refund_status"]], _money(refund["amount"]["refund"], _CURRENCY))


def _bill_values(row: Mapping[str, str]) -> dict[str, str] | None:
    """Return a line of the bill without the ticks before its values; None for the sums at its end."""
    values = {name: (value or "").removeprefix("`") for name, value in row.items() if isinstance(name, str)}
    return values if values.get("商户订单号", "").startswith("pay_") else None


def _entries(values: Mapping[str, str]) -> Iterator[SettlementEntry]:
    """Read a line: a payment, or one of its refunds."""
    at = datetime.fromisoformat(values["交易时间"]).replace(tzinfo=_BEIJING)
    currency = values["货币种类"]
    if values["交易状态"] == "SUCCESS":
        yield SettlementEntry(values["商户订单号"], False, Money(Decimal(values["订单金额"]), currency), at)
    elif values["交易状态"] == "REFUND" and values["退款状态"] == "SUCCESS":
        yield SettlementEntry(values["商户退款单号"], True, Money(Decimal(values["申请退款金额"]), currency), at)


def _fen(amount: Decimal) -> int:
    units = amount.scaleb(2)
    if units != int(units):
        raise ProviderRefused(f"{amount} is finer than a fen")
    return int(units)


def _money(fen: int, currency: str) -> Money:
    return Money(Decimal(int(fen)).scaleb(-2), currency)
