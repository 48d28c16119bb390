"""Buyers in a flash sale who do as the contract asks: the same key until they are told, a ticket until it ends."""

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.http_client import Answer, ConnectionLost, HttpClient
from bench.scenario import Buyer

ORDERED = "ordered"
UNSETTLED = "unsettled"
_RETRY_S = 1.0
_POLL_S = (0.5, 4.0)
# A buyer whose place is far back asks less often: a thousand buyers before it take about a second.
_SERVED_PER_S = 1000


@dataclass(slots=True)
class Purchase:
    """What became of one key.

    `outcome` is "ordered", the code of the refusal, or "unsettled" when the time was over. The times begin when the
    buyer is let in: `answered_after_s` is the request's, `settled_after_s` the ticket's end where there was a ticket.
    """

    user_id: str
    outcome: str = UNSETTLED
    order_id: str = ""
    answered_after_s: float = 0.0
    settled_after_s: float = 0.0
    was_queued: bool = False


@dataclass(slots=True)
class Counts:
    """What the buyers have seen so far."""

    settled: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    repeats: Counter[str] = field(default_factory=Counter)


class SaleBuyers:
    """Buys one SKU of one sale for many buyers; `give_up_at_s` (monotonic) bounds every one of them."""

    def __init__(self, client: HttpClient, *, sale_id: str, sku: str, give_up_at_s: float, rng: random.Random) -> None:
        self._client = client
        self._path = f"/api/v1/flash-sales/{sale_id}/orders"
        self._sku = sku
        self._give_up_at_s = give_up_at_s
        self._rng = rng
        self.counts = Counts()

    async def buy(self, buyer: Buyer, door: asyncio.Semaphore) -> Purchase:
        """Buy one unit under a key of its own once the door lets one in, and stay until the outcome is told."""
        purchase = Purchase(buyer.user_id)
        body = json.dumps({"sku": self._sku, "quantity": 1, "address_id": buyer.address_id}).encode()
        headers = {"Authorization": f"Bearer {buyer.access}", "Idempotency-Key": secrets.token_hex(12)}
        async with door:
            began_s = time.monotonic()
            answer = await self._settled("POST", self._path, headers, body)
        purchase.answered_after_s = time.monotonic() - began_s
        if answer is not None and answer.status == 202:
            purchase.was_queued = True
            await self._follow(answer, purchase, headers)
        elif answer is not None:
            purchase.outcome = ORDERED if answer.status == 201 else answer.code
            purchase.order_id = answer.fields["id"] if answer.status == 201 else ""
        purchase.settled_after_s = time.monotonic() - began_s
        self.counts.settled[purchase.outcome] += 1
        return purchase

    async def _follow(self, accepted: Answer, purchase: Purchase, headers: dict[str, str]) -> None:
        """Ask for a ticket until it has ended."""
        fields = accepted.fields
        path = f"/api/v1/flash-sales/tickets/{fields['ticket']}"
        authorization = {"Authorization": headers["Authorization"]}
        while True:
            shortest_s, longest_s = _POLL_S
            wait_s = min(max(int(fields.get("position") or 1) / _SERVED_PER_S, shortest_s), longest_s)
            await asyncio.sleep(wait_s * self._rng.uniform(0.8, 1.2))
            answer = await self._settled("GET", path, authorization)
            if answer is None:
                return
            if answer.status != 200:
                purchase.outcome = answer.code
                return
            fields = answer.fields
            if fields["status"] != "waiting":
                purchase.outcome = fields.get("code") or fields["status"]
                purchase.order_id = fields.get("order_id") or ""
                return
            if time.monotonic() > self._give_up_at_s:
                return

    async def _settled(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer | None:
        """Send a request until the contract does not ask to repeat it; None when the time is over."""
        while time.monotonic() < self._give_up_at_s:
            self.counts.requests += 1
            try:
                answer = await self._client.request(method, path, headers=headers, body=body)
            except ConnectionLost:
                self.counts.repeats["connection lost"] += 1
                await asyncio.sleep(_RETRY_S * self._rng.uniform(0.5, 1.5))
                continue
            if not _must_be_repeated(answer):
                return answer
            self.counts.repeats[answer.code] += 1
            await asyncio.sleep(int(answer.headers.get("retry-after", "1")) * self._rng.uniform(1.0, 1.5))
        return None


def _must_be_repeated(answer: Answer) -> bool:
    """Tell whether the contract asks for the same request again."""
    in_progress = answer.status == 409 and answer.code == "request_in_progress"
    return in_progress or answer.status in (429, 503, 504)
