"""Coupons of orders: what they take off (for quotes and for placing alike), their redemption, and their return.

What a coupon is worth is found by pricing.py from what was read before; the redemption, in the order's transaction, is
what makes sure that the coupon was still there.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import DatabaseError
from msgspec.structs import replace

from apps.orders.domain import OrderStatus, pay_in_part
from apps.orders.errors import CouponNotApplicable, PriceChanged
from apps.orders.models import Order
from apps.orders.pricing import Offer, WhyNot, price_named
from apps.orders.services.drafting import OrderDraft, check_expected_total
from apps.orders.services.points import pay_with_points
from apps.orders.services.shipping_fee import shipping_rule
from apps.promotions import services as promotions
from apps.promotions.domain import CouponState
from apps.promotions.selectors import coupon_state, coupons_by_key, templates_of
from apps.promotions.types import CouponKey, HeldCoupon, Redemption, Template
from infra.api.fields import id_from_text
from infra.errors import DomainError, FieldError, Overloaded, ValidationFailed

Discounted = OrderDraft | DomainError | DatabaseError

_ENDED: Final = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REFUNDED})
_DETAILS: Final[Mapping[WhyNot, str]] = {
    WhyNot.UNKNOWN: "You have no such coupon.",
    WhyNot.REDEEMED: "This coupon has been used for another order.",
    WhyNot.EXPIRED: "This coupon has expired.",
    WhyNot.WITHDRAWN: "This coupon cannot be used at present.",
    WhyNot.REPEATED: "This coupon is named twice.",
    WhyNot.CURRENCY: "This coupon is for another currency.",
    WhyNot.SCOPE: "This coupon is for other goods.",
    WhyNot.THRESHOLD: "The goods that this coupon is for come to less than {threshold}.",
    WhyNot.NOT_STACKABLE: "These coupons cannot be used together.",
    WhyNot.NO_EFFECT: "This coupon would change nothing.",
}


def with_coupons(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> list[Discounted]:
    """Return the drafts of one shard priced with the coupons that they name, and then the points; or why not.

    The coupons of all of them are read in one statement, and nothing is read where none is named. A refusal concerns
    its own draft only, and so does a `promotions` that cannot be asked for a template.
    """
    naming = [draft for draft in drafts if draft.wishes is not None]
    if not naming:
        return list(drafts)
    held = coupons_by_key(alias, {key for draft in naming for key in _keys(draft)})
    try:
        templates = templates_of({coupon.template_id for coupon in held.values()})
    except (DatabaseError, DomainError) as error:
        return [draft if draft.wishes is None else error for draft in drafts]
    return [_with_coupons(draft, held, templates, now=now) for draft in drafts]


def _with_coupons(
    draft: OrderDraft, held: Mapping[CouponKey, HeldCoupon], templates: Mapping[int, Template], *, now: datetime
) -> Discounted:
    order, wishes = draft.order, draft.wishes
    if wishes is None:
        return draft
    named = named_offers(wishes.coupons, order.user_id, held, templates, now=now)
    currency = order.currency
    priced, refused = price_named(wishes.lines, named, currency=currency, shipping=shipping_rule(currency))
    if refused:
        return _refusal({n: (why, named[n]) for n, why in refused.items()})
    totals, points_used = priced.totals, 0
    items = tuple([replace(item, discount=share) for item, share in zip(order.items, priced.discounts, strict=True)])
    try:
        if wishes.points:
            items, use = pay_with_points(items, wishes.points, currency=currency)
            points_used, totals = use.points, pay_in_part(totals, use.value, currency=currency)
        check_expected_total(wishes.expected_total, totals)
    except (ValidationFailed, PriceChanged) as refusal:
        return refusal
    return replace(
        draft,
        order=replace(
            order,
            discount=totals.discount,
            points_used=points_used,
            points_value=totals.points_value,
            shipping_fee=totals.shipping_fee,
            total=totals.total,
            items=items,
            coupons=wishes.coupons,
        ),
        redemptions=tuple(
            [
                Redemption(coupon_id, order.user_id, order.id, discount)
                for coupon_id, discount in sorted(priced.taken.items())
            ]
        ),
    )


def named_offers(
    coupons: Sequence[str],
    user_id: int,
    held: Mapping[CouponKey, HeldCoupon],
    templates: Mapping[int, Template],
    *,
    now: datetime,
) -> list[Offer | WhyNot]:
    """Return, for each coupon that a client names, what it offers, or why it cannot be used for any order."""
    return [_offer(held.get((user_id, coupon_id_of(text))), templates, now=now) for text in coupons]


def _offer(coupon: HeldCoupon | None, templates: Mapping[int, Template], *, now: datetime) -> Offer | WhyNot:
    if coupon is None:
        return WhyNot.UNKNOWN
    state = coupon_state(coupon, now=now)
    if state == CouponState.REDEEMED:
        return WhyNot.REDEEMED
    if state == CouponState.EXPIRED:
        return WhyNot.EXPIRED
    template = templates.get(coupon.template_id)
    if template is None or not template.is_active:
        return WhyNot.WITHDRAWN
    return Offer(coupon.id, template.terms, coupon.expires_at)


def coupon_id_of(text: str) -> int:
    """Return the id that a client's text names, 0 where it can name none."""
    return id_from_text(text) or 0


def detail_of(why: WhyNot, offer: Offer | WhyNot) -> str:
    """Tell a shopper why a coupon does not apply."""
    threshold = f"{offer.terms.threshold} {offer.terms.currency}" if isinstance(offer, Offer) else ""
    return _DETAILS[why].format(threshold=threshold)


def _refusal(refused: Mapping[int, tuple[WhyNot, Offer | WhyNot]]) -> CouponNotApplicable:
    errors = [
        FieldError(f"/coupons/{n}", "not_applicable", detail_of(why, offer), {"reason": str(why)})
        for n, (why, offer) in sorted(refused.items())
    ]
    return CouponNotApplicable("Some coupons cannot be used for this order.", errors=errors)


def in_turn(drafts: Sequence[OrderDraft]) -> tuple[list[OrderDraft], list[OrderDraft]]:
    """Part drafts into those that can be committed together, and those naming a coupon that an earlier one names.

    The latter are for when it is known what became of the former.
    """
    seen: set[int] = set()
    first: list[OrderDraft] = []
    later: list[OrderDraft] = []
    for draft in drafts:
        coupons = {redemption.coupon_id for redemption in draft.redemptions}
        (later if coupons & seen else first).append(draft)
        seen |= coupons
    return first, later


def redeem_coupons_of(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> None:
    """Take the coupons of orders inside the transaction that writes them; raises CouponsChanged (roll back)."""
    redemptions = [redemption for draft in drafts for redemption in draft.redemptions]
    if redemptions:
        promotions.redeem_coupons(alias, redemptions, now=now)


def coupons_gone(alias: str, draft: OrderDraft, *, now: datetime) -> DomainError | DatabaseError:
    """Tell why a draft could not have its coupons, which it could when they were read first."""
    try:
        [again] = with_coupons(alias, [draft], now=now)
    except DatabaseError as error:
        return error
    if isinstance(again, OrderDraft):
        return Overloaded("A coupon was given back while you ordered. Nothing was taken.")
    return again


def restore_coupons_of(alias: str, orders: Sequence[Order], *, now: datetime) -> None:
    """Give back the coupons of those of the orders that have ended, inside the transaction that ends them.

    A coupon that is past its own end comes back as an expired one.
    """
    ended = [order for order in orders if order.coupons and order.status in _ENDED]
    promotions.restore_coupons(
        alias,
        {(order.user_id, int(coupon_id), order.id) for order in ended for coupon_id in order.coupons.split(",")},
        now=now,
    )


def _keys(draft: OrderDraft) -> set[CouponKey]:
    names = draft.wishes.coupons if draft.wishes is not None else ()
    return {(draft.order.user_id, coupon_id) for text in names if (coupon_id := coupon_id_of(text))}
