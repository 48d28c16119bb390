"""Claims of coupons: counted in `promotions`, held on the user's shard. No transaction spans both.

    1. the claim    (promotions, one commit)             pending, counted against both limits
    2. the coupon   (the user's shard, one commit, before the claim's deadline), with the idempotency key
    3. done         (promotions)

Between 1 and 3 there is a claim that nobody may know the end of. Who knows that 2 did not commit takes the claim back;
after a crash `settle_claims` looks: a coupon -> the claim is done; nothing -> first a tombstone under that very id, on
which a writer that was only stopped fails, then the claim is taken back.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError, close_old_connections, transaction
from django.db.models import F, Q

from apps.promotions.domain import coupon_expiry, first_free
from apps.promotions.errors import CouponExhausted, CouponNotClaimable, CouponNotFound
from apps.promotions.models import (
    CouponClaim,
    CouponClaimState,
    CouponTemplate,
    HeldCouponRow,
    HeldCouponState,
)
from apps.promotions.selectors import get_template
from apps.promotions.types import ClaimedCoupon, Template
from infra.errors import DomainError, LimitReached, OutcomeUnknown, Overloaded
from infra.idempotency.errors import KeyTaken, RequestInProgress
from infra.idempotency.services import find_answer, remember
from infra.idempotency.types import RequestKey
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry
from infra.sharding.ids import ms_of, time_of, wall_clock_ms
from infra.sharding.places import Place, place_of_user, shard_atomic
from infra.sharding.slots import slot_of_user
from infra.sharding.workers import new_id_of_user

_log = logging.getLogger(__name__)

PROMOTIONS: Final = "promotions"
GRANT_BATCH: Final = 500
SETTLE_BATCH: Final = 500
_ROUNDS: Final = 10
_POLL_S: Final = 0.05


def claim_coupon(*, user_id: int, template_id: int, key: RequestKey | None, now: datetime) -> ClaimedCoupon:
    """Give a shopper a coupon of a listed template, once for the key where there is one.

    Raises CouponNotFound, CouponNotClaimable, LimitReached (the shopper has as many as one may have), CouponExhausted,
    IdempotencyKeyReused; RequestInProgress while an earlier attempt with the key may still run; Overloaded or
    ShardUnavailable when nothing was taken; OutcomeUnknown, which the key settles.
    Concurrency: neither limit is ever passed, whoever else claims; attempts with one key make one coupon.
    """
    place = place_of_user(user_id)
    if key is not None and (answer := find_answer(place, key)) is not None:
        return ClaimedCoupon(int(answer.resource_id), replayed=True)
    try:
        template = get_template(template_id)
        if not template.is_listed:
            raise CouponNotFound("There is no such coupon.")
        claim = _new_claim(template, user_id, key=key, now=now)
        _give(template, [claim], key=key, now=now)
        return ClaimedCoupon(claim.id, replayed=False)
    except (DomainError, KeyTaken) as refusal:
        if key is None or (isinstance(refusal, DomainError) and refusal.status >= 500):
            raise
        earlier = _earlier_attempt(place, key)
        if earlier is not None:
            return earlier
        if isinstance(refusal, KeyTaken):
            raise RequestInProgress("An earlier attempt has just ended. Repeat the request.") from refusal
        raise


def grant_coupon(*, user_id: int, template_id: int, by: str, reason: str, now: datetime) -> int:
    """Give a user a coupon on behalf of the staff; see `grant_coupons`."""
    [coupon_id] = grant_coupons(user_ids=[user_id], template_id=template_id, by=by, reason=reason, now=now)
    return coupon_id


def grant_coupons(*, user_ids: Sequence[int], template_id: int, by: str, reason: str, now: datetime) -> list[int]:
    """Give users coupons of any active template on behalf of the staff, one for each time that they are named.

    Returns the coupons' ids in the order of the users. Goes by batches, each of one shard and given whole or not at
    all. Raises CouponNotFound, CouponNotClaimable, LimitReached, CouponExhausted, Overloaded, ShardUnavailable,
    OutcomeUnknown; what was given before stays given. The claims keep who and why. Both limits hold.
    """
    template = get_template(template_id)
    by_alias: dict[str, list[int]] = defaultdict(list)
    for number, user_id in enumerate(user_ids):
        by_alias[place_of_user(user_id).alias].append(number)
    granted = [0] * len(user_ids)
    for members in by_alias.values():
        for start in range(0, len(members), GRANT_BATCH):
            batch = members[start : start + GRANT_BATCH]
            claims = [_new_claim(template, user_ids[number], by=by, reason=reason, now=now) for number in batch]
            _give(template, claims, key=None, now=now)
            for number, claim in zip(batch, claims, strict=True):
                granted[number] = claim.id
    return granted


def settle_claims(*, now: datetime) -> Counter[str]:
    """Bring claims that are past their deadline to their end; returns counts by outcome.

    A shard that cannot be reached keeps its claims pending until it can. Safe to run in several processes at once, and
    to be killed at any point.
    """
    counts: Counter[str] = Counter()
    for claims in _overdue(now):
        by_place: dict[Place, list[CouponClaim]] = defaultdict(list)
        for claim in claims:
            by_place[place_of_user(claim.user_id)].append(claim)
        for place, members in by_place.items():
            try:
                for claim in members:
                    counts["done" if _settle(place, claim, now=now) else "taken back"] += 1
            except (DatabaseError, DomainError):
                _log.warning("claims of %d coupons wait for %s", len(members), place.alias, exc_info=True)
                counts["waiting"] += len(members)
    return counts


def _new_claim(
    template: Template, user_id: int, *, key: RequestKey | None = None, by: str = "", reason: str = "", now: datetime
) -> CouponClaim:
    """Return a claim that is yet to be written; its time to be written ends so long after its id was made."""
    coupon_id = new_id_of_user(user_id)
    return CouponClaim(
        id=coupon_id,
        template_id=template.id,
        user_id=user_id,
        state=CouponClaimState.PENDING,
        request_digest=None if key is None else key.digest,
        granted_by=by,
        reason=reason,
        created_at=now,
        deadline_at=time_of(coupon_id) + timedelta(seconds=settings.COUPON_WRITE_DEADLINE_S),
    )


def _give(template: Template, claims: Sequence[CouponClaim], *, key: RequestKey | None, now: datetime) -> None:
    """Claim, hold, note as done: claims of users of one shard, all or none.

    `key` belongs to the only claim; raises KeyTaken when its coupon is another one.
    """
    _claim(template, claims, now=now)
    try:
        with_deadlock_retry(lambda: _hold(template, claims, key, now=now))
    except OutcomeUnknown:
        raise
    except IntegrityError as error:
        _take_back_at_once(claims)
        if is_duplicate_key(error):  # the tombstone of a claim that was settled meanwhile
            raise _too_late() from error
        raise
    except BaseException:
        _take_back_at_once(claims)
        raise
    try:
        finish_claims(claims)
    except DatabaseError:
        _log.warning("claims of %d coupons are left to be settled", len(claims), exc_info=True)


def _claim(template: Template, claims: Sequence[CouponClaim], *, now: datetime) -> None:
    """Write the claims under free numbers of their users, and count them."""
    for _ in range(_ROUNDS):
        _number(template, claims)
        try:
            with_deadlock_retry(lambda: _write_claims(template, claims, now=now))
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise
            if _is_under_way(claims):
                raise RequestInProgress("An earlier attempt with this key is still running.") from error
            continue  # another request of one of the users has just taken the number
        return
    raise Overloaded("Too many requests claim this coupon at once. Nothing was taken.")


def _number(template: Template, claims: Sequence[CouponClaim]) -> None:
    """Give each claim the lowest number that its user has free; raises LimitReached."""
    taken: dict[int, set[int]] = defaultdict(set)
    rows = CouponClaim.objects.using(PROMOTIONS).filter(
        template_id=template.id, user_id__in={claim.user_id for claim in claims}
    )
    for user_id, n in rows.values_list("user_id", "n"):
        taken[user_id].add(n)
    for claim in claims:
        free = first_free(taken[claim.user_id], limit=template.per_user_limit)
        if free is None:
            raise LimitReached(f"A shopper may have {template.per_user_limit} of this coupon.")
        claim.n = free
        taken[claim.user_id].add(free)


def _write_claims(template: Template, claims: Sequence[CouponClaim], *, now: datetime) -> None:
    with transaction.atomic(using=PROMOTIONS):
        CouponClaim.objects.using(PROMOTIONS).bulk_create(claims)
        if not count_claims(template.id, len(claims), now=now):
            raise _refusal(template.id, now=now)


def count_claims(template_id: int, count: int, *, now: datetime) -> bool:
    """Count so many claims more in the open transaction, if the template still gives out as many.

    Last in its transaction, since all claims of the template meet on this row.
    """
    rows = CouponTemplate.objects.using(PROMOTIONS).filter(
        Q(total_limit__isnull=True) | Q(claimed_count__lte=F("total_limit") - count),
        id=template_id,
        is_active=True,
        starts_at__lte=now,
        ends_at__gt=now,
    )
    return rows.update(claimed_count=F("claimed_count") + count) == 1


def _refusal(template_id: int, *, now: datetime) -> DomainError:
    """Tell why a template gives out nothing (more)."""
    template = get_template(template_id)
    if not template.is_active or template.ends_at <= now:
        return CouponNotClaimable("This coupon can no longer be claimed.")
    if template.starts_at > now:
        return CouponNotClaimable("This coupon cannot be claimed yet.")
    return CouponExhausted("All of these coupons have been claimed.")


def _is_under_way(claims: Sequence[CouponClaim]) -> bool:
    """Tell whether a claim with the same request digest is pending."""
    return any(_pending(claim.user_id, claim.request_digest) for claim in claims if claim.request_digest is not None)


def _pending(user_id: int, digest: bytes) -> bool:
    return CouponClaim.objects.using(PROMOTIONS).filter(user_id=user_id, request_digest=digest).exists()


def _hold(template: Template, claims: Sequence[CouponClaim], key: RequestKey | None, *, now: datetime) -> None:
    """Write the coupons, and the key that names the only one, in one transaction not begun after the deadline.

    Raises OutcomeUnknown for a failure of the COMMIT itself; after anything else nothing was written.
    """
    if wall_clock_ms() >= ms_of(claims[0].deadline_at):
        raise _too_late()
    alias = place_of_user(claims[0].user_id).alias
    expires_at = coupon_expiry(ends_at=template.ends_at, valid_days=template.valid_days, claimed_at=now)
    coupons = [_coupon_row(claim, HeldCouponState.HELD, expires_at=expires_at, now=now) for claim in claims]
    commit_began = False
    try:
        with shard_atomic(alias, {coupon.slot for coupon in coupons}):
            if key is not None:
                remember(place_of_user(key.user_id), key, resource_id=str(claims[0].id), now=now)
            HeldCouponRow.objects.using(alias).bulk_create(coupons)
            commit_began = True
    except BaseException as error:
        if commit_began:
            raise OutcomeUnknown(
                "The answer of the database was lost. Repeat the request with the same Idempotency-Key, "
                "or look at your coupons."
            ) from error
        raise


def _coupon_row(claim: CouponClaim, state: HeldCouponState, *, expires_at: datetime, now: datetime) -> HeldCouponRow:
    return HeldCouponRow(
        slot=slot_of_user(claim.user_id),
        user_id=claim.user_id,
        id=claim.id,
        template_id=claim.template_id,
        state=state,
        claimed_at=now,
        expires_at=expires_at,
        updated_at=now,
    )


def finish_claims(claims: Sequence[CouponClaim]) -> None:
    """Note that the coupons of claims are there. Idempotent."""
    pending = CouponClaim.objects.using(PROMOTIONS).filter(
        id__in=[claim.id for claim in claims], state=CouponClaimState.PENDING
    )
    pending.update(state=CouponClaimState.DONE, request_digest=None)


def take_back(claim: CouponClaim) -> None:
    """Undo a pending claim of which it is known that its coupon will never be there. Idempotent."""

    def undo() -> None:
        with transaction.atomic(using=PROMOTIONS):
            pending = CouponClaim.objects.using(PROMOTIONS).filter(id=claim.id, state=CouponClaimState.PENDING)
            if pending.delete()[0]:
                templates = CouponTemplate.objects.using(PROMOTIONS).filter(id=claim.template_id)
                templates.update(claimed_count=F("claimed_count") - 1)

    with_deadlock_retry(undo)


def _take_back_at_once(claims: Sequence[CouponClaim]) -> None:
    try:
        for claim in claims:
            take_back(claim)
    except DatabaseError:
        _log.warning("claims of %d coupons are left to be settled", len(claims), exc_info=True)


def _settle(place: Place, claim: CouponClaim, *, now: datetime) -> bool:
    """End a claim by what is on the shard, where nothing can come after a tombstone; True if there is a coupon."""
    if _is_there(place, claim) or not insert_tombstone(place, claim, now=now):
        finish_claims([claim])
        return True
    take_back(claim)
    return False


def insert_tombstone(place: Place, claim: CouponClaim, *, now: datetime) -> bool:
    """Commit a void row under the coupon's id; False when the coupon itself came first.

    Waits for a writer that is inside its transaction (its row lock), up to the lock wait timeout.
    """
    try:
        with place.atomic():
            void = _coupon_row(claim, HeldCouponState.VOID, expires_at=now, now=now)
            void.save(using=place.alias, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        return not _is_there(place, claim)
    return True


def _is_there(place: Place, claim: CouponClaim) -> bool:
    rows = HeldCouponRow.objects.at(place).filter(user_id=claim.user_id, id=claim.id)
    return rows.exclude(state=HeldCouponState.VOID).exists()


def _overdue(now: datetime) -> Iterator[Sequence[CouponClaim]]:
    """Yield batches of pending claims past their deadline, oldest first; one that waits does not hold up the others."""
    overdue = CouponClaim.objects.using(PROMOTIONS).filter(state=CouponClaimState.PENDING, deadline_at__lt=now)
    rows = overdue.order_by("deadline_at", "id")
    while True:
        batch = list(rows[:SETTLE_BATCH])
        if batch:
            yield batch
        if len(batch) < SETTLE_BATCH:
            return
        last = batch[-1]
        rows = overdue.filter(
            Q(deadline_at__gt=last.deadline_at) | Q(deadline_at=last.deadline_at, id__gt=last.id)
        ).order_by("deadline_at", "id")


def _earlier_attempt(place: Place, key: RequestKey) -> ClaimedCoupon | None:
    """Return the coupon of an earlier attempt with this key, or None if there is no such attempt (any more).

    The pending claim is read before the key: an attempt that commits in between is then seen by its key. Raises
    RequestInProgress if the attempt has not ended within the bound.
    """
    give_up_at = time.monotonic() + settings.ORDER_REPEAT_WAIT_S
    while True:
        is_pending = _pending(key.user_id, key.digest)
        answer = find_answer(place, key)
        if answer is not None:
            return ClaimedCoupon(int(answer.resource_id), replayed=True)
        if not is_pending:
            return None
        if time.monotonic() >= give_up_at:
            raise RequestInProgress("An earlier attempt with this key may still be running.")
        close_old_connections()  # nobody needs them while this one sleeps
        time.sleep(_POLL_S)


def _too_late() -> Overloaded:
    return Overloaded("The coupon could not be written in time. Nothing was taken.")
