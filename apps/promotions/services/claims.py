"""What an order takes from a sale, and what becomes of it: given back, or settled."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from django.db import IntegrityError

from apps.promotions import locks, statements
from apps.promotions.domain import served_in_order
from apps.promotions.errors import AllotmentShort, PurchasesChanged, TransferMismatch
from apps.promotions.models import ClaimState
from apps.promotions.services.transfers import record_debit
from apps.promotions.statements import PurchaseKey
from apps.promotions.types import STOCK, Allotment, ItemKey, SaleClaim, Transfer
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry
from infra.sharding.ids import slot_of
from infra.sharding.places import shard_atomic


def would_have(claims: Sequence[SaleClaim], bought: Mapping[PurchaseKey, int]) -> list[tuple[SaleClaim, int]]:
    """Return each claim with what its buyer would have of the item, those before it in the batch included."""
    so_far: Counter[PurchaseKey] = Counter(bought)
    outcomes = []
    for claim in claims:
        key = claim.sale_id, claim.sku, claim.user_id
        so_far[key] += claim.quantity
        outcomes.append((claim, so_far[key]))
    return outcomes


def share_out(alias: str, claims: Sequence[SaleClaim]) -> tuple[list[SaleClaim], dict[ItemKey, Allotment]]:
    """Lock the allotments of the claims in the open transaction; return who gets what they want, and the allotments.

    First come, first served; the others get nothing of what they want.
    """
    allotments = locks.lock_allotments(alias, {claim.item for claim in claims})
    by_item: dict[ItemKey, list[SaleClaim]] = defaultdict(list)
    for claim in claims:
        by_item[claim.item].append(claim)
    winners: list[SaleClaim] = []
    for item, members in by_item.items():
        allotment = allotments.get(item)
        left = 0 if allotment is None or allotment.closed else allotment.unsold
        served = served_in_order([claim.quantity for claim in members], left=left)
        winners += [claim for claim, is_served in zip(members, served, strict=True) if is_served]
    return winners, allotments


def take(
    alias: str,
    claims: Sequence[SaleClaim],
    *,
    bought: Mapping[PurchaseKey, int],
    limits: Mapping[ItemKey, int],
    now: datetime,
) -> None:
    """Take the units of all claims from the shard's allotments, inside the open transaction that writes the orders.

    `bought` is what the buyers had when it was read without locks. Raises AllotmentShort when any item has fewer units
    left, PurchasesChanged when any buyer's purchases are no longer what was read; the caller rolls back.
    Concurrency: both are guarded by the rows themselves, `sold + n <= quota` and `bought + n <= limit`.
    """
    units = _units_by_item(claims)
    if statements.claim_units(alias, units) != len(units):
        raise AllotmentShort(f"{alias} has not enough of {sorted(units)}.")
    purchases: Counter[PurchaseKey] = Counter()
    for claim in claims:
        purchases[claim.sale_id, claim.sku, claim.user_id] += claim.quantity
    first = {key: quantity for key, quantity in purchases.items() if key not in bought}
    further = {key: quantity for key, quantity in purchases.items() if key in bought}
    if first:
        try:
            statements.insert_purchases(alias, first)
        except IntegrityError as error:
            if is_duplicate_key(error):
                raise PurchasesChanged from error
            raise
    if further and statements.add_bought(alias, further, limits) != len(further):
        raise PurchasesChanged
    statements.insert_claims(alias, claims, now=now)


def give_back(alias: str, order_ids: Collection[int], *, now: datetime) -> list[Transfer]:
    """Give the units of held claims back, once: to the sale while it sells, else to stock; and the buyers' purchases.

    Returns the transfers to stock that this begins. Idempotent: claims that are not held are left as they are.
    Concurrency: compare-and-set under the locks of the allotments; against settling, whichever comes first wins.
    """
    if not order_ids:
        return []
    return with_deadlock_retry(partial(_give_back, alias, sorted(order_ids), now))


def _give_back(alias: str, order_ids: Sequence[int], now: datetime) -> list[Transfer]:
    items = {claim.item for claim in statements.read_claims(alias, order_ids)}
    with shard_atomic(alias, {slot_of(order_id) for order_id in order_ids}):
        allotments = locks.lock_allotments(alias, items)
        claims = locks.lock_claims(alias, order_ids, state=ClaimState.HELD)
        if not claims:
            return []
        units = _units_by_item(claims)
        still_open = {item: quantity for item, quantity in units.items() if not allotments[item].closed}
        closed = {item: quantity for item, quantity in units.items() if allotments[item].closed}
        purchases: Counter[PurchaseKey] = Counter()
        for claim in claims:
            purchases[claim.sale_id, claim.sku, claim.user_id] += claim.quantity
        moved = (
            statements.take_bought(alias, purchases) == len(purchases)
            and (not still_open or statements.unclaim_units(alias, still_open) == len(still_open))
            and (not closed or statements.unclaim_closed_units(alias, closed) == len(closed))
        )
        if not moved:
            raise TransferMismatch(f"{alias}: the counters of {sorted(units)} do not cover the claims on them.")
        _change(alias, claims, from_state=ClaimState.HELD, to_state=ClaimState.RETURNED, now=now)
        return [
            record_debit(alias, item, quantity, creditor=STOCK, now=now) for item, quantity in sorted(closed.items())
        ]


def begin_settling(alias: str, order_ids: Collection[int], *, now: datetime) -> list[SaleClaim]:
    """Decide that the units of held claims leave the stock; return those of the orders whose units have yet to.

    From here on they cannot be given back. Idempotent; a claim that was given back is left as it is.
    """
    if not order_ids:
        return []

    def begin() -> list[SaleClaim]:
        with shard_atomic(alias, {slot_of(order_id) for order_id in order_ids}):
            if held := locks.lock_claims(alias, order_ids, state=ClaimState.HELD):
                _change(alias, held, from_state=ClaimState.HELD, to_state=ClaimState.SETTLING, now=now)
            return locks.lock_claims(alias, order_ids, state=ClaimState.SETTLING)

    return with_deadlock_retry(begin)


def finish_settling(alias: str, order_ids: Collection[int], *, now: datetime) -> None:
    """Note that the units of settling claims have left the stock. Idempotent."""
    if not order_ids:
        return

    def finish() -> None:
        items = {claim.item for claim in statements.read_claims(alias, order_ids)}
        with shard_atomic(alias, {slot_of(order_id) for order_id in order_ids}):
            locks.lock_allotments(alias, items)
            claims = locks.lock_claims(alias, order_ids, state=ClaimState.SETTLING)
            if not claims:
                return
            units = _units_by_item(claims)
            if statements.settle_units(alias, units) != len(units):
                raise TransferMismatch(f"{alias}: fewer of {sorted(units)} were sold than are to be settled.")
            _change(alias, claims, from_state=ClaimState.SETTLING, to_state=ClaimState.SETTLED, now=now)

    with_deadlock_retry(finish)


def _units_by_item(claims: Iterable[SaleClaim]) -> Counter[ItemKey]:
    """Return the units of the claims, summed up by item."""
    units: Counter[ItemKey] = Counter()
    for claim in claims:
        units[claim.item] += claim.quantity
    return units


def _change(
    alias: str, claims: Sequence[SaleClaim], *, from_state: ClaimState, to_state: ClaimState, now: datetime
) -> None:
    """Move claims whose rows are locked from one state to the next."""
    order_ids = [claim.order_id for claim in claims]
    if statements.change_claims(alias, order_ids, from_state=from_state, to_state=to_state, now=now) != len(claims):
        raise AssertionError("Locked claims changed under their lock.")
