"""Buying in a flash sale: key, units, limit, order and event in one transaction of the buyer's shard.

    1. the draft       sale, phase, token, price, limit: from the process's memory
    2. the batch       drafts of one shard that wait together; keys, addresses and purchases in one statement each
    3. the claim       `sold + n <= quota` for the whole batch, `bought + n <= limit` for each buyer, then the orders

There is nothing to compensate: either all of 3 commits or none of it. A batch that meets an empty allotment locks it,
serves in order of arrival, and draws more units for the others from the rest of the shards (flash_transfers); sold out
is told when that finds nothing. Whoever is refused is first looked up by the key: a repeat never hears a refusal.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from threading import Condition, Lock
from typing import Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError

from apps.orders.domain import line_total, no_money, round_money, totals_of
from apps.orders.services.drafting import OrderDraft, new_order, with_addresses
from apps.orders.services.flash_transfers import Drawn, draw
from apps.orders.services.lanes import CommitLanes
from apps.orders.services.placement import answer_of_earlier_attempt, check_limits, first_answer
from apps.orders.services.recording import insert_orders, remember_noted_months
from apps.orders.types import FlashOrderRequest, OrderLineView, OrderRequest, OrderView, PlacedOrder
from apps.promotions import services as promotions
from apps.promotions.errors import (
    AllotmentShort,
    PurchaseLimitReached,
    PurchasesChanged,
    SaleEnded,
    SaleNotFound,
    SaleNotStarted,
    SoldOut,
)
from apps.promotions.selectors import bought_by, find_sale
from apps.promotions.types import Allotment, ItemKey, Sale, SaleClaim, SaleItem, Ticket, TicketEnd
from infra.errors import DomainError, FieldError, LimitReached, OutcomeUnknown, Overloaded, ValidationFailed
from infra.idempotency.errors import IdempotencyKeyReused, KeyTaken, RequestInProgress
from infra.idempotency.inflight import InFlight
from infra.idempotency.services import find_answer, find_answers
from infra.idempotency.types import StoredAnswer
from infra.mysql.retry import with_deadlock_retry
from infra.outbox.services import request_headers
from infra.sharding.errors import SlotClosed, StaleMap
from infra.sharding.ids import slot_of
from infra.sharding.places import place_of_user, shard_atomic

Outcome = OrderView | StoredAnswer | DomainError | KeyTaken | DatabaseError

# A batch is tried so often before those that still have no verdict are told to come again.
_ROUNDS: Final = 6
_in_flight: Final = InFlight[PlacedOrder]()
_PAUSE_S: Final = 0.02
# Until when (monotonic) an item is believed to be sold out for a shard's buyers.
_sold_out_until: Final[dict[tuple[str, ItemKey], float]] = {}


@dataclass(frozen=True, slots=True)
class FlashDraft:
    """An order in a sale that is neither claimed nor written."""

    order: OrderDraft
    claim: SaleClaim
    limit: int
    ticket: Ticket | None = None


class OneAtATime:
    """Lets one request of a buyer and sale through at a time in this process; the others wait for their turn."""

    def __init__(self) -> None:
        self._busy: set[tuple[int, int]] = set()
        self._changed = Condition(Lock())

    @contextmanager
    def turn(self, buyer: tuple[int, int], *, wait_s: float) -> Iterator[None]:
        """Raises RequestInProgress when the turn has not come after `wait_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: buyer not in self._busy, timeout=wait_s):
                raise RequestInProgress("Another of your requests for this sale is still running.")
            self._busy.add(buyer)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(buyer)
                self._changed.notify_all()


_turns: Final = OneAtATime()


def place_flash_order(request: FlashOrderRequest, *, now: datetime) -> PlacedOrder:
    """Buy in a flash sale once for the request's key, and return the order as it was placed.

    Raises SaleNotFound, BuyerBlocked, SaleNotStarted, SaleEnded, SalePaused, PurchaseTokenInvalid, ValidationFailed (a
    SKU that is not in the sale, the address), PurchaseLimitReached, SoldOut, LimitReached, IdempotencyKeyReused;
    RequestInProgress; Overloaded or ShardUnavailable when nothing was taken; OutcomeUnknown, which the key settles.
    Concurrency: any number of attempts with one key, in any processes, make at most one order, and all that succeed
    return it. Never sells more than the quotas, nor to one buyer more than the limit, whoever else buys or transfers.
    """
    placed, joined = _in_flight.run(
        request.key, lambda: _place_alone(request, now=now), wait_s=settings.ORDER_REPEAT_WAIT_S
    )
    return PlacedOrder(order=placed.order, replayed=True) if joined else placed


def check_flash_request(request: FlashOrderRequest, sale: Sale, *, now: datetime) -> SaleItem:
    """Return the item that a request wants; raises what refuses it without looking at what is left."""
    promotions.check_not_blocked(sale.id, user_id=request.key.user_id, address=request.address)
    promotions.check_open(sale, now=now)
    if sale.token_required:
        promotions.check_purchase_token(request.token, sale, user_id=request.key.user_id, now=now)
    item = sale.items.get(request.sku)
    if item is None:
        detail = "This SKU is not in the sale."
        raise ValidationFailed(detail, errors=[FieldError("/sku", "unknown_sku", detail)])
    if request.quantity > item.per_user_limit:
        raise _limit_reached(item.per_user_limit, bought=0)
    return item


def draft_flash_order(request: FlashOrderRequest, item: SaleItem, *, ticket: Ticket | None = None) -> FlashDraft:
    """Return the order of a checked request under a fresh id; nothing is written or asked.

    With a `ticket` the order also ends that ticket, in its transaction.
    """
    line = _line(item, request.quantity)
    order = new_order(
        OrderRequest(
            key=request.key,
            items=((request.sku, request.quantity),),
            address_id=request.address_id,
            exempt=request.exempt,
        ),
        items=(line,),
        totals=totals_of([line.line_total], currency=item.currency, discount=Decimal(0)),
        currency=item.currency,
    )
    return FlashDraft(
        order=OrderDraft(
            order=order,
            key=request.key,
            address_id=request.address_id,
            sealed_address="",
            exempt=request.exempt,
            first_index={request.sku: 0},
            event_headers=request_headers(),
        ),
        claim=SaleClaim(order.id, request.key.user_id, request.sale_id, request.sku, request.quantity),
        limit=item.per_user_limit,
        ticket=ticket,
    )


def commit_flash_orders(alias: str, drafts: Sequence[FlashDraft], *, now: datetime) -> list[Outcome]:
    """Commit the drafts of one shard; return each one's outcome, in the order given.

    A draft whose key was used before gets its first answer, or is told that the key was for another body.
    """
    outcomes: dict[int, Outcome] = dict(_answers(alias, drafts))
    new = [draft for draft in drafts if draft.claim.order_id not in outcomes]
    complete: list[FlashDraft] = []
    for draft, addressed in zip(new, with_addresses(alias, [each.order for each in new]) if new else (), strict=True):
        if isinstance(addressed, OrderDraft):
            complete.append(replace(draft, order=addressed))
        else:
            outcomes[draft.claim.order_id] = addressed
    if complete:
        outcomes |= _Batch(alias, complete, now=now).commit()
    refused = [draft for draft in new if _is_verdict(outcomes[draft.claim.order_id])]
    outcomes |= _answers(alias, refused)  # an attempt of another process may have committed meanwhile
    return [outcomes[draft.claim.order_id] for draft in drafts]


class _Batch:
    """The drafts of one shard on their way to one outcome each."""

    def __init__(self, alias: str, drafts: Sequence[FlashDraft], *, now: datetime) -> None:
        self._alias = alias
        self._now = now
        self._undecided = list(drafts)
        self._outcomes: dict[int, Outcome] = {}

    def commit(self) -> dict[int, Outcome]:
        """Decide all of them; by order id."""
        self._refuse_known_sold_out()
        serves_in_order = False
        for _ in range(_ROUNDS):
            if not self._undecided:
                break
            try:
                serves_in_order = not self._write_round(serves_in_order=serves_in_order)
            except AllotmentShort:
                serves_in_order = True
            except PurchasesChanged:
                continue
        for draft in self._undecided:
            self._outcomes[draft.claim.order_id] = Overloaded("Units of this sale are on the move. Nothing was taken.")
        return self._outcomes

    def _write_round(self, *, serves_in_order: bool) -> bool:
        """Write those that can have what they want; True when nobody is left who wants more than there is."""
        bought = bought_by(self._alias, {_purchase(draft) for draft in self._undecided})
        self._refuse_over_limit(bought)
        if not self._undecided:
            return True
        drafts = self._undecided
        attempt = partial(self._write, drafts, bought, serves_in_order=serves_in_order)
        try:
            written, allotments = with_deadlock_retry(attempt)
        except OutcomeUnknown as error:
            self._decide(drafts, error)
            return True
        except (KeyTaken, IntegrityError, LimitReached, StaleMap, SlotClosed) as error:
            if len(drafts) == 1:
                self._decide(drafts, error)
                return True
            self._one_by_one(drafts)  # one member's doing: find out whose
            return True
        except (DomainError, DatabaseError) as error:
            self._decide(drafts, error)
            return True
        remember_noted_months([draft.order for draft in written])
        for draft in written:
            self._outcomes[draft.claim.order_id] = draft.order.order
        self._undecided = [draft for draft in drafts if draft.claim.order_id not in self._outcomes]
        if not self._undecided:
            return True
        self._settle_short(allotments)
        return False

    def _write(
        self, drafts: Sequence[FlashDraft], bought: dict[tuple[int, str, int], int], *, serves_in_order: bool
    ) -> tuple[list[FlashDraft], dict[ItemKey, Allotment]]:
        """Commit drafts in one transaction; return those written, and the allotments where they had to be locked.

        Raises OutcomeUnknown for a failure of the COMMIT itself; after anything else nothing was written.
        """
        commit_began = False
        allotments: dict[ItemKey, Allotment] = {}
        try:
            with shard_atomic(self._alias, {slot_of(draft.claim.order_id) for draft in drafts}):
                check_limits(self._alias, [draft.order for draft in drafts], now=self._now)
                winners = list(drafts)
                if serves_in_order:
                    served, allotments = promotions.share_out(self._alias, [draft.claim for draft in drafts])
                    served_ids = {claim.order_id for claim in served}
                    winners = [draft for draft in drafts if draft.claim.order_id in served_ids]
                if winners:
                    promotions.take(
                        self._alias,
                        [draft.claim for draft in winners],
                        bought=bought,
                        limits={draft.claim.item: draft.limit for draft in winners},
                        now=self._now,
                    )
                    insert_orders(self._alias, [draft.order for draft in winners], now=self._now)
                    _end_tickets(self._alias, winners, now=self._now)
                commit_began = True
        except BaseException as error:
            if commit_began:
                raise OutcomeUnknown(
                    "The answer of the database was lost. Repeat the request with the same Idempotency-Key."
                ) from error
            raise
        return winners, allotments

    def _settle_short(self, allotments: dict[ItemKey, Allotment]) -> None:
        """Draw units for those who were not served; refuse those for whom there are none."""
        by_item: dict[ItemKey, list[FlashDraft]] = {}
        for draft in self._undecided:
            by_item.setdefault(draft.claim.item, []).append(draft)
        for item, members in by_item.items():
            allotment = allotments.get(item)
            if allotment is not None and allotment.closed:
                self._decide(members, SaleEnded("The sale is over."))
                continue
            left = 0 if allotment is None else allotment.unsold
            wishes = [draft.claim.quantity for draft in members]
            drawn = draw(self._alias, item, needed=sum(wishes) - left, smallest=min(wishes), now=self._now)
            if drawn is Drawn.DRY:
                self._decide(members, _no_units_left())
                if left == 0:
                    _sold_out_until[self._alias, item] = time.monotonic() + settings.FLASH_SOLD_OUT_S
            elif drawn is Drawn.MOVING:
                time.sleep(_PAUSE_S)

    def _refuse_known_sold_out(self) -> None:
        now_s = time.monotonic()
        known = [
            draft for draft in self._undecided if _sold_out_until.get((self._alias, draft.claim.item), now_s) > now_s
        ]
        self._decide(known, _no_units_left())

    def _refuse_over_limit(self, bought: dict[tuple[int, str, int], int]) -> None:
        limits = {draft.claim.order_id: draft for draft in self._undecided}
        for claim, units in promotions.would_have([draft.claim for draft in self._undecided], bought):
            draft = limits[claim.order_id]
            if units > draft.limit:
                self._decide([draft], _limit_reached(draft.limit, bought=bought.get(_purchase(draft), 0)))

    def _one_by_one(self, drafts: Sequence[FlashDraft]) -> None:
        for draft in drafts:
            self._outcomes |= _Batch(self._alias, [draft], now=self._now).commit()
        self._undecided = [draft for draft in self._undecided if draft.claim.order_id not in self._outcomes]

    def _decide(self, drafts: Sequence[FlashDraft], outcome: Outcome) -> None:
        decided = {draft.claim.order_id for draft in drafts}
        self._outcomes |= dict.fromkeys(decided, outcome)
        self._undecided = [draft for draft in self._undecided if draft.claim.order_id not in decided]


def forget_sold_out() -> None:
    """Have this process look at the allotments again at once."""
    _sold_out_until.clear()


def _place_alone(request: FlashOrderRequest, *, now: datetime) -> PlacedOrder:
    began_at = time.monotonic()
    place = place_of_user(request.key.user_id)
    sale = find_sale(request.sale_id)
    if sale is None or not sale.is_shown_to(request.key.user_id, now=now):
        raise SaleNotFound("There is no such sale.")
    with _turns.turn((request.key.user_id, request.sale_id), wait_s=settings.ORDER_REPEAT_WAIT_S):
        try:
            item = check_flash_request(request, sale, now=now)
        except SaleNotStarted:
            raise  # nobody has bought in it
        except DomainError:
            answer = find_answer(place, request.key)
            if answer is None:
                raise
            return first_answer(answer)
        draft = draft_flash_order(request, item)
        try:
            return _placed(_lanes.submit(place.alias, draft, waited_s=time.monotonic() - began_at, now=now))
        except KeyTaken:
            return answer_of_earlier_attempt(place, request.key)


def _placed(outcome: Outcome) -> PlacedOrder:
    if isinstance(outcome, OrderView):
        return PlacedOrder(order=outcome, replayed=False)
    if isinstance(outcome, StoredAnswer):
        return first_answer(outcome)
    raise outcome


def _answers(alias: str, drafts: Sequence[FlashDraft]) -> dict[int, StoredAnswer | IdempotencyKeyReused]:
    found = find_answers(alias, [draft.order.key for draft in drafts])
    return {draft.claim.order_id: found[draft.order.key] for draft in drafts if draft.order.key in found}


def _end_tickets(alias: str, drafts: Sequence[FlashDraft], *, now: datetime) -> None:
    """End the tickets of orders that came through the queue; raises IntegrityError (1062) when one has been refused."""
    ends = [TicketEnd(draft.ticket, draft.claim.order_id, "") for draft in drafts if draft.ticket is not None]
    if ends:
        promotions.end_tickets(alias, ends, now=now)


def _line(item: SaleItem, quantity: int) -> OrderLineView:
    return OrderLineView(
        line=1,
        sku=item.sku,
        title=item.title,
        quantity=quantity,
        unit_price=round_money(item.price, item.currency),
        line_total=line_total(unit_price=item.price, quantity=quantity, currency=item.currency),
        discount=no_money(item.currency),
        points_value=no_money(item.currency),
        refunded_quantity=0,
    )


def _purchase(draft: FlashDraft) -> tuple[int, str, int]:
    return draft.claim.sale_id, draft.claim.sku, draft.claim.user_id


def _is_verdict(outcome: Outcome) -> bool:
    return isinstance(outcome, DomainError) and outcome.status < 500


def _limit_reached(limit: int, *, bought: int) -> PurchaseLimitReached:
    detail = f"One shopper may buy {limit} of this SKU in this sale."
    return PurchaseLimitReached(
        detail, errors=[FieldError("/quantity", "purchase_limit_reached", detail, {"limit": limit, "bought": bought})]
    )


def _no_units_left() -> SoldOut:
    return SoldOut("There are not as many units left. Units that are not paid for in time come back.")


_lanes: Final = CommitLanes[FlashDraft, Outcome](
    "flash", lambda alias, drafts, now: commit_flash_orders(alias, drafts, now=now)
)
