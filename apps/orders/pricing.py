"""What an order costs: lines, coupons, shipping, and why a coupon does not apply. Pure rules, no I/O.

The order in which coupons take effect is fixed, whatever order they are named in: percentages, then amounts, then free
shipping, older coupons first. Each takes its part of what those before it have left of the goods that it is for; what
they must come to (the threshold) and the free shipping of dear orders are judged by the goods' full price. So the same
coupons make the same total in a quote and in an order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import combinations
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from apps.orders.domain import Totals, no_money, round_money, split_amount, totals_of
from apps.promotions.domain import CouponKind
from apps.promotions.types import CouponTerms

MAX_COUPONS: Final = 10
"""So many coupons go into one order."""

# Up to so many stackable coupons, the best set is found by trying all; of more, the best so many are put together
# greedily.
_TRIED_ALL: Final = 6
_TRIED_GREEDILY: Final = 20
_TURNS: Final = {CouponKind.PERCENT: 0, CouponKind.AMOUNT: 1, CouponKind.FREE_SHIPPING: 2}


class WhyNot(StrEnum):
    """Why a coupon does not apply to an order."""

    UNKNOWN = "unknown"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    REPEATED = "repeated"
    CURRENCY = "currency"
    SCOPE = "scope"
    THRESHOLD = "threshold"
    NOT_STACKABLE = "not_stackable"
    NO_EFFECT = "no_effect"


class PricedLine(Struct, frozen=True):
    """One SKU of an order, with what a coupon may be limited to."""

    sku: str
    product_id: int
    category: str
    line_total: Decimal


class Offer(Struct, frozen=True):
    """A coupon that its owner could use."""

    coupon_id: int
    terms: CouponTerms
    expires_at: datetime


class ShippingRule(Struct, frozen=True):
    """A flat fee, in the order's currency; goods of `free_from` and more are shipped free (None: none are)."""

    fee: Decimal
    free_from: Decimal | None = None

    def fee_for(self, subtotal: Decimal) -> Decimal:
        """Return what shipping goods of this price costs."""
        return Decimal(0) if self.free_from is not None and subtotal >= self.free_from else self.fee


class Priced(Struct, frozen=True):
    """What an order costs, each line's exact share of the discount, and what each coupon takes off the goods."""

    totals: Totals
    discounts: tuple[Decimal, ...]
    taken: Mapping[int, Decimal]


def price_order(
    lines: Sequence[PricedLine], offers: Sequence[Offer], *, currency: str, shipping: ShippingRule
) -> Priced:
    """Return what the lines cost with coupons that all apply; the line discounts sum to the order's."""
    left = [line.line_total for line in lines]
    nothing = no_money(currency)
    taken: dict[int, Decimal] = {}
    ships_free = False
    for offer in sorted(offers, key=_turn):
        if offer.terms.kind == CouponKind.FREE_SHIPPING:
            ships_free = True
            taken[offer.coupon_id] = nothing
            continue
        inside = [n for n, line in enumerate(lines) if _covers(offer.terms, line)]
        weights = [left[n] for n in inside]
        discount = _discount(offer.terms, sum(weights, Decimal(0)), currency)
        if discount:
            for n, share in zip(inside, split_amount(discount, weights, currency=currency), strict=True):
                left[n] -= share
        taken[offer.coupon_id] = discount
    line_totals = [line.line_total for line in lines]
    return Priced(
        totals=totals_of(
            line_totals,
            currency=currency,
            discount=sum(taken.values(), Decimal(0)),
            shipping_fee=Decimal(0) if ships_free else shipping.fee_for(sum(line_totals, Decimal(0))),
        ),
        discounts=tuple([total - rest for total, rest in zip(line_totals, left, strict=True)]),
        taken=taken,
    )


def price_named(
    lines: Sequence[PricedLine], named: Sequence[Offer | WhyNot], *, currency: str, shipping: ShippingRule
) -> tuple[Priced, dict[int, WhyNot]]:
    """Return what the lines cost with those of the coupons that apply together, and by place why the others do not.

    A coupon is judged by itself, then against those named before it: several go together only if all are stackable. One
    that would change nothing is refused too: it would be lost for nothing.
    """
    refused: dict[int, WhyNot] = {}
    accepted: list[tuple[int, Offer]] = []
    for n, offer in enumerate(named):
        if isinstance(offer, WhyNot):
            refused[n] = offer
            continue
        why = _alone(offer, lines, currency=currency) or _together(offer, [other for _, other in accepted])
        if why is None:
            accepted.append((n, offer))
        else:
            refused[n] = why
    priced = price_order(lines, [offer for _, offer in accepted], currency=currency, shipping=shipping)
    idle = _without_effect(priced, [offer for _, offer in accepted], shipping)
    if idle:
        refused |= {n: WhyNot.NO_EFFECT for n, offer in accepted if offer.coupon_id in idle}
        taken = {coupon_id: discount for coupon_id, discount in priced.taken.items() if coupon_id not in idle}
        priced = replace(priced, taken=taken)
    return priced, refused


def best_offers(
    lines: Sequence[PricedLine], offers: Sequence[Offer], *, currency: str, shipping: ShippingRule
) -> tuple[Offer, ...]:
    """Return the set that saves most; of equal ones that with fewer coupons, then with those that end first.

    Exact where at most `_TRIED_ALL` stackable coupons apply. Empty where nothing would be saved.
    """

    def rank(chosen: tuple[Offer, ...]) -> tuple[Decimal, int, list[datetime], list[int]]:
        priced = price_order(lines, chosen, currency=currency, shipping=shipping)
        ends = sorted(offer.expires_at for offer in chosen)
        return priced.totals.total, len(chosen), ends, sorted(offer.coupon_id for offer in chosen)

    fitting = [offer for offer in offers if _alone(offer, lines, currency=currency) is None]
    candidates: list[tuple[Offer, ...]] = [(), *((offer,) for offer in fitting)]
    stackable = [offer for offer in fitting if offer.terms.stackable]
    if len(stackable) <= _TRIED_ALL:
        for size in range(2, len(stackable) + 1):
            candidates += combinations(stackable, size)
    else:
        best_first = sorted(stackable, key=lambda offer: rank((offer,)))[:_TRIED_GREEDILY]
        chosen: tuple[Offer, ...] = ()
        while len(chosen) < MAX_COUPONS:
            following = min(((*chosen, offer) for offer in best_first if offer not in chosen), key=rank, default=chosen)
            if rank(following) >= rank(chosen):
                break
            chosen = following
        candidates.append(chosen)
    return min(candidates, key=rank)


def _alone(offer: Offer, lines: Sequence[PricedLine], *, currency: str) -> WhyNot | None:
    terms = offer.terms
    if terms.currency != currency:
        return WhyNot.CURRENCY
    inside = [line.line_total for line in lines if _covers(terms, line)]
    if not inside:
        return WhyNot.SCOPE
    return WhyNot.THRESHOLD if sum(inside) < terms.threshold else None


def _together(offer: Offer, accepted: Sequence[Offer]) -> WhyNot | None:
    if any(other.coupon_id == offer.coupon_id for other in accepted):
        return WhyNot.REPEATED
    if accepted and not (offer.terms.stackable and all(other.terms.stackable for other in accepted)):
        return WhyNot.NOT_STACKABLE
    return None


def _without_effect(priced: Priced, offers: Sequence[Offer], shipping: ShippingRule) -> set[int]:
    """Return the ids of coupons that take nothing off, or free the order of a fee that it does not have."""
    idle = set()
    has_fee = shipping.fee_for(priced.totals.subtotal) > 0
    for offer in sorted(offers, key=_turn):
        if offer.terms.kind == CouponKind.FREE_SHIPPING:
            if not has_fee:
                idle.add(offer.coupon_id)
            has_fee = False
        elif not priced.taken[offer.coupon_id]:
            idle.add(offer.coupon_id)
    return idle


def _discount(terms: CouponTerms, base: Decimal, currency: str) -> Decimal:
    """Return what a coupon takes off goods that cost `base`, never more than that."""
    if terms.kind == CouponKind.AMOUNT:
        return min(round_money(terms.amount, currency), base)
    share = round_money(base * terms.percent / 100, currency)
    return share if terms.max_discount is None else min(share, round_money(terms.max_discount, currency))


def _covers(terms: CouponTerms, line: PricedLine) -> bool:
    return terms.is_for_all or terms.covers(sku=line.sku, product_id=line.product_id, category=line.category)


def _turn(offer: Offer) -> tuple[int, int]:
    return _TURNS[offer.terms.kind], offer.coupon_id
