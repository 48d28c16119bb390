"""Buying in a sale that queues its buyers: a ticket at once, the order or a refusal when its turn has come.

    enqueue   the request is checked against what the process knows, and made durable in Redis: 202
    drain     the oldest entries of a shard's queue are committed in batches, like direct orders; the ticket's outcome
              is one row, written in the order's transaction, or as a refusal
    poll      reads the outcome; a ticket that is past its bound, or that the queue has forgotten, it ends as refused

The outcome's key lets a ticket end once, whoever comes first. So a queue that is read twice (a drain was killed) makes
no second order, and one that was emptied leaves no ticket open.
"""

import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from apps.orders.services.flash_placement import (
    FlashDraft,
    Outcome,
    check_flash_request,
    commit_flash_orders,
    draft_flash_order,
    place_flash_order,
)
from apps.orders.types import FlashOrderRequest, OrderView, PlacedOrder, SweepReport, TicketView
from apps.promotions import services as promotions
from apps.promotions.domain import Phase, SaleMode
from apps.promotions.errors import QueueUnavailable, SaleNotFound, SaleNotStarted
from apps.promotions.selectors import find_sale, live_sales
from apps.promotions.services import SaleQueue
from apps.promotions.types import QueuedRequest, QueuePlace, Sale, Ticket, TicketEnd
from infra.errors import Code, DomainError, OutcomeUnknown
from infra.idempotency.errors import IdempotencyKeyReused
from infra.idempotency.services import find_answer
from infra.idempotency.types import RequestKey, StoredAnswer
from infra.sharding.places import place_of_user, shard_aliases

_log = logging.getLogger(__name__)

_KEEP_AFTER_END: Final = timedelta(days=1)
# Refusals that say nothing about the request: it stays in the queue.
_PASSING: Final = frozenset({Code.REQUEST_IN_PROGRESS})


def buy_in_sale(request: FlashOrderRequest, *, now: datetime) -> PlacedOrder | QueuePlace:
    """Buy in a flash sale in the way that the sale is run: an order at once, or a place in its queue.

    See `place_flash_order` and `queue_flash_order` for what they raise and promise.
    """
    began_at = time.perf_counter()
    sale = find_sale(request.sale_id)
    if sale is None or not sale.is_shown_to(request.key.user_id, now=now):
        raise SaleNotFound("There is no such sale.")
    try:
        bought = (
            queue_flash_order(request, sale, now=now)
            if sale.mode == SaleMode.QUEUED
            else place_flash_order(request, now=now)
        )
    except DomainError as refusal:
        promotions.count_answer(sale.id, str(refusal.code), took_s=time.perf_counter() - began_at)
        raise
    if isinstance(bought, QueuePlace):
        promotions.count_answer(sale.id, "queued", took_s=time.perf_counter() - began_at)
    elif not bought.replayed:
        promotions.count_answer(sale.id, "ordered", took_s=time.perf_counter() - began_at)
    return bought


def queue_flash_order(request: FlashOrderRequest, sale: Sale, *, now: datetime) -> QueuePlace:
    """Put a request into the queue of its sale, once for its key, and return its place there.

    Raises what `check_flash_request` raises, IdempotencyKeyReused; OutcomeUnknown when the queue gave no answer: the
    same key settles it. A repeat gets the first ticket, also after the sale's end.
    """
    alias = place_of_user(request.key.user_id).alias
    queue = SaleQueue(sale.id, alias)
    ticket = Ticket(sale.id, request.key.user_id, request.key.digest, int(now.timestamp() * 1000))
    try:
        try:
            check_flash_request(request, sale, now=now)
        except SaleNotStarted:
            raise
        except DomainError:
            place = queue.find(ticket) or _ended_place(alias, request.key, ticket)
            if place is None:
                raise
        else:
            keep_s = int((sale.ends_at - now + _KEEP_AFTER_END).total_seconds())
            place = queue.enqueue(
                QueuedRequest(
                    ticket=ticket,
                    body_digest=request.key.body_digest,
                    sku=request.sku,
                    quantity=request.quantity,
                    address_id=request.address_id,
                    exempt=request.exempt,
                ),
                keep_s=keep_s,
            )
    except QueueUnavailable as error:
        raise OutcomeUnknown("The queue gave no answer. Repeat the request with the same Idempotency-Key.") from error
    if place.body_digest != request.key.body_digest:
        raise IdempotencyKeyReused("This Idempotency-Key was used for another body.")
    return place


def ticket_view(text: str, *, user_id: int, now: datetime) -> TicketView:
    """Return where a ticket stands; raises TicketNotFound for everybody else's too.

    Ends a ticket that nobody will serve any more. Concurrency: against a drain, whichever is first decides.
    """
    ticket = promotions.read_ticket(text, user_id=user_id, now=now)
    alias = place_of_user(user_id).alias
    ended = _end_of(alias, ticket)
    if ended is None:
        position, refusal = _place_in_queue(alias, ticket, now=now)
        if refusal is None:
            return TicketView("waiting", position=position)
        promotions.end_each(alias, [TicketEnd(ticket, None, refusal)], now=now)
        ended = _end_of(alias, ticket) or TicketEnd(ticket, None, refusal)
    if ended.order_id is not None:
        return TicketView("ordered", order_id=ended.order_id)
    return TicketView("refused", code=ended.code)


def drain_queues() -> SweepReport:
    """Serve what waits in the queues of all sales, for at most `FLASH_DRAIN_S` seconds; returns counts by outcome.

    A queue that another process drains is left to it, so several processes share the queues among them.
    """
    counts: Counter[str] = Counter()
    stop_at = time.monotonic() + settings.FLASH_DRAIN_S
    queues = [(sale.id, alias) for sale in live_sales() if sale.mode == SaleMode.QUEUED for alias in shard_aliases()]
    random.shuffle(queues)
    for sale_id, alias in queues:
        try:
            counts.update(QueueDrain(sale_id, alias).run(stop_at=stop_at))
        except QueueUnavailable as error:
            _log.warning("the queue of sale %d cannot be read: %s", sale_id, error)
            break
    return SweepReport(dict(counts))


def is_waiting(sale: Sale) -> bool:
    """Tell whether anything waits in the sale's queues; True as well when they cannot be asked."""
    if sale.mode != SaleMode.QUEUED:
        return False
    try:
        return any(SaleQueue(sale.id, alias).length() for alias in shard_aliases())
    except QueueUnavailable:
        return True


def forget_queues(sale: Sale) -> None:
    """Delete the queues of a sale that is closed. A queue that cannot be reached is left: nobody reads it any more."""
    if sale.mode != SaleMode.QUEUED:
        return
    try:
        for alias in shard_aliases():
            SaleQueue(sale.id, alias).forget()
    except QueueUnavailable as error:
        _log.warning("the queues of sale %d stay behind: %s", sale.id, error)


class QueueDrain:
    """Serves one queue in order of arrival; its steps are methods so that a test can stop between any two of them."""

    def __init__(self, sale_id: int, alias: str) -> None:
        self._sale_id = sale_id
        self._alias = alias
        self._queue = SaleQueue(sale_id, alias)
        self._holder = secrets.token_hex(8)
        self.counts: Counter[str] = Counter()

    def run(self, *, stop_at: float) -> Counter[str]:
        """Serve batches until nothing waits or moves, or the time (monotonic) is over. Raises QueueUnavailable."""
        if not self._queue.length() or not self._queue.lease(self._holder):
            return self.counts
        try:
            while time.monotonic() < stop_at and self._serve_batch() and self._queue.lease(self._holder):
                pass
        finally:
            self._queue.release(self._holder)
        return self.counts

    def _serve_batch(self) -> bool:
        """Bring the oldest entries to their end; False when there is none, or none could be ended now."""
        now = timezone.now()
        sale = find_sale(self._sale_id)
        if sale is None or sale.phase(now) == Phase.PAUSED:
            return False
        entries = self._queue.read(settings.FLASH_QUEUE_BATCH)
        requests = [request for _, request in entries if request is not None]
        ended = self.settle(sale, requests, now=now)
        done = [entry_id for entry_id, request in entries if request is None or request.ticket in ended]
        self._queue.drop(done)
        return bool(done)

    def settle(self, sale: Sale, requests: Sequence[QueuedRequest], *, now: datetime) -> set[Ticket]:
        """Place or refuse the requests; returns the tickets that have ended. The others are tried again."""
        known = promotions.ticket_ends(self._alias, [_key_of(request.ticket) for request in requests])
        ended = {request.ticket for request in requests if _key_of(request.ticket) in known}
        refusals: dict[Ticket, Code] = {}
        drafts: dict[Ticket, FlashDraft] = {}
        for request in requests:
            ticket = request.ticket
            if ticket in ended:
                continue
            if now >= promotions.give_up_at(ticket, sale):
                refusals[ticket] = Code.SALE_ENDED
                continue
            try:
                drafts[ticket] = self._draft(sale, request)
            except DomainError as refusal:
                refusals[ticket] = refusal.code
        ends: list[TicketEnd] = []
        for ticket, outcome in self._commit(drafts, now=now):
            if isinstance(outcome, OrderView):
                ended.add(ticket)  # its row was written with the order
                promotions.count_answer(self._sale_id, "ordered")
                self.counts["ordered"] += 1
            elif isinstance(outcome, StoredAnswer):
                ends.append(TicketEnd(ticket, int(outcome.resource_id), ""))
            elif isinstance(outcome, DomainError) and outcome.status < 500 and outcome.code not in _PASSING:
                refusals[ticket] = outcome.code
            else:
                self.counts["again"] += 1
        ends += [TicketEnd(ticket, None, str(code)) for ticket, code in refusals.items()]
        for code in refusals.values():
            promotions.count_answer(self._sale_id, str(code))
        promotions.end_each(self._alias, ends, now=now)
        self.counts["refused"] += len(refusals)
        return ended | {end.ticket for end in ends}

    def _draft(self, sale: Sale, request: QueuedRequest) -> FlashDraft:
        """Make the order of a request, judged by the time at which it was queued; its token was seen then."""
        ticket = request.ticket
        wanted = FlashOrderRequest(
            key=RequestKey(ticket.user_id, ticket.digest, request.body_digest),
            sale_id=sale.id,
            sku=request.sku,
            quantity=request.quantity,
            address_id=request.address_id,
            exempt=request.exempt,
        )
        item = check_flash_request(wanted, replace(sale, token_required=False), now=ticket.issued_at)
        return draft_flash_order(wanted, item, ticket=ticket)

    def _commit(self, drafts: dict[Ticket, FlashDraft], *, now: datetime) -> list[tuple[Ticket, Outcome]]:
        outcomes: list[tuple[Ticket, Outcome]] = []
        tickets = list(drafts)
        for start in range(0, len(tickets), settings.FLASH_QUEUE_BATCH):
            batch = tickets[start : start + settings.FLASH_QUEUE_BATCH]
            try:
                found = commit_flash_orders(self._alias, [drafts[ticket] for ticket in batch], now=now)
            except (DatabaseError, DomainError) as error:
                _log.warning("%s serves nothing of sale %d now: %s", self._alias, self._sale_id, error)
                self.counts["again"] += len(batch)
                break
            outcomes += zip(batch, found, strict=True)
        return outcomes


def _place_in_queue(alias: str, ticket: Ticket, *, now: datetime) -> tuple[int | None, str | None]:
    """Return the position of a waiting ticket (None if it cannot be told), or the code of its refusal."""
    sale = find_sale(ticket.sale_id)
    if sale is None or sale.closed_at is not None or now >= promotions.give_up_at(ticket, sale):
        return None, str(Code.SALE_ENDED)
    try:
        place = SaleQueue(ticket.sale_id, alias).find(ticket)
    except QueueUnavailable:
        return None, None
    if place is None and now - ticket.issued_at > timedelta(seconds=settings.FLASH_TICKET_LOST_S):
        return None, str(Code.OVERLOADED)
    return (None if place is None else place.position), None


def _ended_place(alias: str, key: RequestKey, ticket: Ticket) -> QueuePlace | None:
    """Return the place of a ticket that has ended, as far as its row and the key's still tell it."""
    ended = _end_of(alias, ticket)
    if ended is None:
        return None
    find_answer(place_of_user(key.user_id), key)  # raises for another body
    return QueuePlace(ended.ticket, key.body_digest, 1, False)


def _end_of(alias: str, ticket: Ticket) -> TicketEnd | None:
    return promotions.ticket_ends(alias, [_key_of(ticket)]).get(_key_of(ticket))


def _key_of(ticket: Ticket) -> tuple[int, bytes]:
    return ticket.user_id, ticket.digest
