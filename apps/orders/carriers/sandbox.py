"""The sandbox carrier's client; the other side is `deploy/sandbox`, the protocol docs/shipping.md."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

from apps.orders.carriers.base import Booking, ShipmentOrder, TrackNotice
from apps.orders.errors import CarrierRefused, CarrierUnavailable
from apps.orders.fulfillment import TRACKED, ShipmentStatus
from apps.payments.errors import CallbackMalformed, SignatureInvalid
from infra.crypto.timed_signature import BadSignature, check_signature
from infra.resilience.breaker import Breaker, CircuitOpen

SIGNATURE_HEADER: Final = "Sandbox-Signature"
_EVENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_NUMBER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_EARLIEST: Final = datetime(2010, 1, 1, tzinfo=UTC)
_CLOCK_SKEW: Final = timedelta(hours=1)
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,100}")
# While the carrier is down, requests fail at once instead of after their time limit; it is tried every few seconds.
_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_S: Final = 2.0


class SandboxCarrier:
    """Talks to one sandbox; safe for threads and greenlets."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        secret: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        max_age_s: int,
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._secret = secret.encode()
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._max_age_s = max_age_s
        self._breaker = Breaker(f"carrier {name}", failure_threshold=_BREAKER_FAILURES, reset_after_s=_BREAKER_RESET_S)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the machine stands between us and the carrier
        self._session.mount("http", HTTPAdapter(pool_connections=1, pool_maxsize=16))
        key = hmac.new(self._secret, b"merchant-api-key", hashlib.sha256).hexdigest()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def book(self, order: ShipmentOrder) -> Booking:
        """Have a shipment fetched and brought, or return its booking as it stands."""
        body = {
            "reference": order.reference,
            "to": dict(order.address),
            "pieces": sum(share.units for share in order.items),
        }
        status, answer = self._call("POST", "/v1/parcels", body)
        number = answer.get("number") if isinstance(answer, dict) else None
        if status >= 300:
            raise CarrierRefused(str(answer))
        if not isinstance(number, str) or not _NUMBER.fullmatch(number):
            raise CarrierUnavailable("The carrier's answer is not understood.")
        return Booking(number)

    def cancel(self, reference: str) -> None:
        """Call a booking off; one that the carrier does not know needs no more."""
        status, answer = self._call("POST", f"/v1/parcels/{reference}/cancel")
        if status >= 300 and status != 404:
            raise CarrierRefused(str(answer))

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> TrackNotice:
        """Verify a track event and read it. Raises SignatureInvalid, CallbackMalformed."""
        try:
            check_signature(
                headers.get(SIGNATURE_HEADER, ""), raw_body, secret=self._secret, max_age_s=self._max_age_s, now=now
            )
        except BadSignature as error:
            raise SignatureInvalid(f"{SIGNATURE_HEADER}: {error}") from error
        try:
            event = json.loads(raw_body)
            parcel = event["parcel"]
            notice = TrackNotice(
                carrier=self.name,
                event_id=_matching(event["event_id"], _EVENT_ID),
                reference=str(parcel["reference"]),
                status=ShipmentStatus(parcel["status"]),
                at=datetime.fromisoformat(parcel["at"]),
                place=_matching(parcel.get("place", ""), _PRINTABLE),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CallbackMalformed("The body is not a track event of this carrier.") from error
        if notice.status not in TRACKED:
            raise CallbackMalformed("The event tells no step of a way.")
        if notice.at.tzinfo is None or not _EARLIEST <= notice.at <= now + _CLOCK_SKEW:
            raise CallbackMalformed("The event is of no time that it can be of.")
        return notice

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, Any]:
        """Call the carrier through the breaker; a refusal is an answer, so only silence and 5xx open it."""
        try:
            return self._breaker.call(self._exchange, method, path, body)
        except CircuitOpen as error:
            raise CarrierUnavailable("The carrier has not answered for a while.") from error

    def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, Any]:
        try:
            response = self._session.request(
                method, self._url + path, json=body, timeout=self._timeout, allow_redirects=False
            )
            answer = response.json()
        except requests.RequestException as error:  # an answer that is not JSON, too
            raise CarrierUnavailable("The carrier cannot be reached.") from error
        if response.status_code in (401, 429) or response.status_code >= 500:
            raise CarrierUnavailable(f"The carrier answered {response.status_code}.")
        return response.status_code, answer


def _matching(value: object, pattern: re.Pattern[str]) -> str:
    """Return the text; raises ValueError for what does not match."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"{value!r} does not match {pattern.pattern}")
    return value
