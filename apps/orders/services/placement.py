"""Placing an order: the steps over two databases, and what undoes each.

    1. the draft                              all that can fail without a claim (coupons are priced with the batch)
    2. the key, looked up on the shard        a repeat gets the first answer
    3. reserve      (inventory, one commit)   undone by: release, at once or by the reaper
    4. record       (the user's shard, one commit, before the write deadline), with its coupons

From 2 on, the drafts that wait for a shard go together, in one batch (infra/groupcommit). Between 3 and 4 there is a
hold without an order. It ends in one of three ways: step 4 commits; this process knows that step 4 did not commit and
releases; or nobody knows, and the reaper settles it with a tombstone (services/reaper.py).
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError, close_old_connections

from apps.inventory import services as inventory
from apps.inventory.selectors import find_hold
from apps.inventory.types import Shortage
from apps.orders.errors import InsufficientPoints, InsufficientStock
from apps.orders.selectors import get_placed_order
from apps.orders.services.apart import commit_apart
from apps.orders.services.discounting import coupons_gone, in_turn, redeem_coupons_of, with_coupons
from apps.orders.services.drafting import OrderDraft, draft_order, with_addresses
from apps.orders.services.free_orders import owe_free_orders
from apps.orders.services.lanes import CommitLanes
from apps.orders.services.limits import check_open_unpaid_orders, limit_reached, room_for_unpaid_orders
from apps.orders.services.points import insufficient_points, points_at_hand, spend_points
from apps.orders.services.recording import insert_orders, remember_noted_months
from apps.orders.types import OrderRequest, OrderView, PlacedOrder
from apps.promotions.errors import CouponsChanged
from apps.users.services import lock_customers
from infra.errors import DomainError, FieldError, LimitReached, OutcomeUnknown, Overloaded
from infra.idempotency.errors import IdempotencyKeyReused, KeyTaken, RequestInProgress
from infra.idempotency.inflight import InFlight
from infra.idempotency.services import find_answer, find_answers
from infra.idempotency.types import RequestKey, StoredAnswer
from infra.mysql.errors import CommitOutcomeUnknown
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry
from infra.sharding.errors import SlotClosed, StaleMap
from infra.sharding.ids import ms_of, slot_of, wall_clock_ms
from infra.sharding.places import Place, place_of_user, shard_atomic

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.05
_in_flight: Final = InFlight[PlacedOrder]()

# A placed order, or the answer that names the one which an earlier attempt has placed; the others are raised.
Outcome = OrderView | StoredAnswer | DomainError | KeyTaken | DatabaseError


def place_order(request: OrderRequest, *, now: datetime) -> PlacedOrder:
    """Place an order once for its key, and return it as it was placed.

    Raises the refusals of `draft_order`, InsufficientStock, IdempotencyKeyReused; RequestInProgress while an earlier
    attempt may still run; Overloaded or ShardUnavailable when nothing was taken; OutcomeUnknown when a commit's answer
    was lost, which the same key settles.
    Concurrency: any number of attempts with one key, in any processes, make at most one order, and all that succeed
    return it. No attempt is told a shortage while another with its key holds the stock.
    """
    placed, joined = _in_flight.run(
        request.key, lambda: _place_alone(request, now=now), wait_s=settings.ORDER_REPEAT_WAIT_S
    )
    return PlacedOrder(order=placed.order, replayed=True) if joined else placed


def _place_alone(request: OrderRequest, *, now: datetime) -> PlacedOrder:
    began_at = time.monotonic()
    place = place_of_user(request.key.user_id)
    try:
        draft = draft_order(request)
        outcome = _commit(place.alias, draft, waited_s=time.monotonic() - began_at, now=now)
        if isinstance(outcome, OrderView):
            return PlacedOrder(order=outcome, replayed=False)
        if isinstance(outcome, StoredAnswer):
            return first_answer(outcome)
        raise outcome
    except KeyTaken:
        return answer_of_earlier_attempt(place, request.key)
    except DomainError as refusal:
        if refusal.status >= 500 or isinstance(refusal, IdempotencyKeyReused):
            raise
        earlier = _wait_for_earlier_attempt(place, request.key)
        if earlier is None:
            raise
        return earlier


def _commit(alias: str, draft: OrderDraft, *, waited_s: float, now: datetime) -> Outcome:
    """Have the draft committed with others of its shard; alone where the stock of a SKU is not claimed in batches."""
    strategy = inventory.strategy_of(draft.first_index)
    if strategy is None:
        return _lanes.submit(alias, draft, waited_s=waited_s, now=now)
    return commit_apart(strategy, lambda: commit_once(alias, [draft], now=now)[0], waited_s=waited_s)


def commit_once(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> list[Outcome]:
    """Commit the drafts of one shard whose keys are new; return each one's outcome, in the order given.

    A draft whose key was used before gets its first answer, or is told that the key was for another body.
    """
    outcomes: dict[int, Outcome] = {}
    answers = find_answers(alias, [draft.key for draft in drafts])
    new = []
    for draft in drafts:
        if draft.key in answers:
            outcomes[draft.order.id] = answers[draft.key]
        else:
            new.append(draft)
    room = room_for_unpaid_orders(alias, {draft.order.user_id for draft in new if not draft.exempt}, now=now)
    points = points_at_hand(alias, {draft.order.user_id for draft in new if draft.points_wanted})
    complete = []
    for draft, addressed in zip(new, with_addresses(alias, new) if new else (), strict=True):
        if not isinstance(addressed, OrderDraft):
            outcomes[draft.order.id] = addressed
        elif not draft.exempt and room[draft.order.user_id] <= 0:
            outcomes[draft.order.id] = limit_reached()  # known before anything is claimed; exact under the lock only
        elif draft.points_wanted > points[draft.order.user_id]:
            outcomes[draft.order.id] = insufficient_points()  # likewise; those of one shopper together only there
        else:
            room[draft.order.user_id] -= 1
            complete.append(addressed)
    if complete:
        commit = commit_drafts if all(draft.wishes is None for draft in complete) else _commit_discounted
        outcomes |= commit(alias, complete, now=now)
    return [outcomes[draft.order.id] for draft in drafts]


def _commit_discounted(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> dict[int, Outcome]:
    """Price the coupons of drafts and commit them; of several that name one coupon, one after the other."""
    outcomes: dict[int, Outcome] = {}
    while drafts:
        priced = with_coupons(alias, drafts, now=now)
        for draft, outcome in zip(drafts, priced, strict=True):
            if not isinstance(outcome, OrderDraft):
                outcomes[draft.order.id] = outcome
        ready, drafts = in_turn([each for each in priced if isinstance(each, OrderDraft)])
        if ready:
            outcomes |= commit_drafts(alias, ready, now=now)
    return outcomes


def _wait_for_earlier_attempt(place: Place, key: RequestKey) -> PlacedOrder | None:
    """Return the order of an earlier attempt with this key, or None if no such attempt holds stock.

    The reservation is read before the key: an attempt that commits in between is then seen by its key. Raises
    RequestInProgress if the holder has not ended within the bound.
    """
    give_up_at = time.monotonic() + settings.ORDER_REPEAT_WAIT_S
    while True:
        holds = find_hold(user_id=key.user_id, request_digest=key.digest)
        answer = find_answer(place, key)
        if answer is not None:
            return first_answer(answer)
        if not any(hold.state == "held" for hold in holds):
            return None
        if time.monotonic() >= give_up_at:
            raise RequestInProgress("An earlier attempt with this key may still be running.")
        close_old_connections()  # nobody needs them while this one sleeps
        time.sleep(_POLL_S)


def answer_of_earlier_attempt(place: Place, key: RequestKey) -> PlacedOrder:
    """Return the order of the attempt that has taken the key; raises RequestInProgress where it is gone again."""
    answer = find_answer(place, key)
    if answer is None:
        raise RequestInProgress("An earlier attempt has just ended. Repeat the request.")
    return first_answer(answer)


def first_answer(answer: StoredAnswer) -> PlacedOrder:
    """Return the order as it was placed under a key."""
    return PlacedOrder(order=get_placed_order(order_id=int(answer.resource_id)), replayed=True)


def commit_drafts(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> Mapping[int, Outcome]:
    """Claim the stock of a batch of one shard, then write its orders; return the outcome of each by order id.

    One member's failure does not harm the others: what a member is refused for is its own
    outcome, and only what hits the batch's transaction as a whole (a lost database) is everyone's.
    """
    try:
        shortages = inventory.reserve([draft.claim for draft in drafts], now=now)
    except CommitOutcomeUnknown as error:
        raise OutcomeUnknown("The answer of the stock's database was lost.") from error
    short = [draft for draft in drafts if shortages[draft.order.id]]
    held = [draft for draft in drafts if not shortages[draft.order.id]]
    outcomes: dict[int, Outcome] = {
        draft.order.id: _insufficient_stock(draft, shortages[draft.order.id]) for draft in short
    }
    if held:
        outcomes |= _record(alias, held, now=now)
    return outcomes


def _record(alias: str, held: Sequence[OrderDraft], *, now: datetime) -> dict[int, Outcome]:
    """Write the orders whose stock is held; give back at once the stock of those known not to be written."""
    order_ids = [draft.order.id for draft in held]
    try:
        with_deadlock_retry(lambda: _write(alias, held, now=now))
    except OutcomeUnknown as error:
        return dict.fromkeys(order_ids, error)
    except (
        KeyTaken,
        IntegrityError,
        LimitReached,
        CouponsChanged,
        InsufficientPoints,
        StaleMap,
        SlotClosed,
    ) as error:
        if len(held) > 1:  # one member's doing: find out whose
            parts = _suspects_apart(held, error)
            return {id_: outcome for part in parts for id_, outcome in _record(alias, part, now=now).items()}
        _release(order_ids, now=now)
        if isinstance(error, CouponsChanged):
            return {order_ids[0]: coupons_gone(alias, held[0], now=now)}
        return {order_ids[0]: _too_late() if is_duplicate_key(error) else error}
    except (DomainError, DatabaseError) as error:
        _release(order_ids, now=now)
        return dict.fromkeys(order_ids, error)
    except BaseException:
        _release(order_ids, now=now)
        raise
    return {draft.order.id: draft.order for draft in held}


def _suspects_apart(held: Sequence[OrderDraft], error: Exception) -> list[Sequence[OrderDraft]]:
    """Return those of a batch whose doing its failure may be, each alone; the others stay together."""
    suspects = held
    if isinstance(error, CouponsChanged):
        suspects = [draft for draft in held if draft.redemptions]
    elif isinstance(error, InsufficientPoints):
        suspects = [draft for draft in held if draft.order.points_used]
    others = [draft for draft in held if draft not in suspects]
    return [*([others] if others else []), *([draft] for draft in suspects)]


def _write(alias: str, held: Sequence[OrderDraft], *, now: datetime) -> None:
    """Commit the orders in one transaction, which is not begun after the write deadline.

    Raises OutcomeUnknown for a failure of the COMMIT itself; after anything else nothing was written.
    """
    write_by_ms = min(ms_of(draft.order.placed_at) for draft in held) + settings.ORDER_WRITE_DEADLINE_S * 1000
    if wall_clock_ms() >= write_by_ms:
        raise _too_late()
    commit_began = False
    try:
        with shard_atomic(alias, {slot_of(draft.order.id) for draft in held}):
            check_limits(alias, held, now=now)
            redeem_coupons_of(alias, held, now=now)
            spend_points(alias, [draft.spending for draft in held if draft.order.points_used], now=now)
            insert_orders(alias, held, now=now)
            owe_free_orders(held, now=now)
            commit_began = True
    except BaseException as error:
        if commit_began:
            raise OutcomeUnknown(
                "The answer of the database was lost. Repeat the request with the same Idempotency-Key."
            ) from error
        raise
    remember_noted_months(held)


def check_limits(alias: str, held: Sequence[OrderDraft], *, now: datetime) -> None:
    """Check the limit of open unpaid orders under the customers' locks, which batches take in one order.

    Raises LimitReached when a customer's drafts are too many together.
    """
    added = Counter(draft.order.user_id for draft in held if not draft.exempt)
    if added:
        lock_customers(alias, added)
        check_open_unpaid_orders(alias, added, now=now)


def _release(order_ids: Sequence[int], *, now: datetime) -> None:
    """Give back holds that are known to have no order; the reaper does it where this fails."""
    try:
        inventory.release(order_ids, now=now)
    except DatabaseError:
        _log.warning("holds of %d orders are left to the reaper", len(order_ids), exc_info=True)


def _too_late() -> Overloaded:
    return Overloaded("The order could not be written in time. Nothing was taken.")


def _insufficient_stock(draft: OrderDraft, shortages: Sequence[Shortage]) -> InsufficientStock:
    return InsufficientStock(
        "Some of what you ask for is not in stock.",
        errors=[
            FieldError(
                f"/items/{draft.first_index[short.sku]}",
                "insufficient_stock",
                f"{short.available} of {short.requested} available.",
                {"sku": short.sku, "requested": short.requested, "available": short.available},
            )
            for short in sorted(shortages, key=lambda short: draft.first_index[short.sku])
        ],
    )


_lanes: Final = CommitLanes[OrderDraft, Outcome](
    "orders", lambda alias, drafts, now: commit_once(alias, drafts, now=now)
)
