"""What an order would cost, by the same rules as placing it; nothing is written, claimed or held."""

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from apps.orders.domain import no_money, pay_in_part
from apps.orders.pricing import Offer, best_offers, price_named, price_order
from apps.orders.services.discounting import coupon_id_of, detail_of, named_offers
from apps.orders.services.drafting import check_address, fill_basket
from apps.orders.services.points import insufficient_points, pay_with_points, points_at_hand
from apps.orders.services.shipping_fee import shipping_rule
from apps.orders.types import CouponQuote, Quote, QuoteRequest, Suggestion
from apps.promotions.selectors import coupons_by_key, templates_of, usable_coupons
from infra.sharding.places import place_of_user

# Of so many coupons of a shopper, those that end first, the best are suggested.
_LOOKED_AT: Final = 100


def quote_order(request: QuoteRequest, *, now: datetime) -> Quote:
    """Return what placing this order now would cost, why a coupon would be refused, and which coupons would save most.

    Raises what placing would raise before it looks at stock: ValidationFailed (unknown SKU, too many of one, the
    address), CurrencyMismatch, InsufficientPoints. A coupon that does not apply is told and left out.
    """
    basket = fill_basket(request.items)
    user_id, currency, lines = request.user_id, basket.currency, basket.lines()
    alias, shipping = place_of_user(user_id).alias, shipping_rule(basket.currency)
    if request.points and request.points > points_at_hand(alias, {user_id})[user_id]:
        raise insufficient_points()
    if request.address_id is not None:
        check_address(alias, user_id, request.address_id)
    usable = usable_coupons(user_id, now=now, limit=_LOOKED_AT)
    held = {(user_id, coupon.id): coupon for coupon in usable}
    others = {(user_id, coupon_id_of(text)) for text in request.coupons} - held.keys() - {(user_id, 0)}
    held |= coupons_by_key(alias, others)
    templates = templates_of({coupon.template_id for coupon in held.values()})
    named = named_offers(request.coupons, user_id, held, templates, now=now)
    priced, refused = price_named(lines, named, currency=currency, shipping=shipping)
    offers = named_offers([str(coupon.id) for coupon in usable], user_id, held, templates, now=now)
    best = best_offers(
        lines, [offer for offer in offers if isinstance(offer, Offer)], currency=currency, shipping=shipping
    )
    suggested = price_order(lines, best, currency=currency, shipping=shipping).totals
    totals, points_used = priced.totals, 0
    items = tuple([replace(item, discount=share) for item, share in zip(basket.items, priced.discounts, strict=True)])
    if request.points:
        items, use = pay_with_points(items, request.points, currency=currency)
        points_used, totals = use.points, pay_in_part(totals, use.value, currency=currency)
    return Quote(
        currency=currency,
        subtotal=totals.subtotal,
        discount=totals.discount,
        points_used=points_used,
        points_value=totals.points_value,
        shipping_fee=totals.shipping_fee,
        total=totals.total,
        items=items,
        coupons=tuple(
            [
                CouponQuote(
                    coupon_id=text,
                    applicable=n not in refused,
                    discount=no_money(currency) if n in refused else priced.taken[coupon_id_of(text)],
                    reason=str(refused[n]) if n in refused else None,
                    detail=detail_of(refused[n], named[n]) if n in refused else None,
                )
                for n, text in enumerate(request.coupons)
            ]
        ),
        suggested=Suggestion(
            coupons=tuple([str(offer.coupon_id) for offer in best]),
            discount=suggested.discount,
            shipping_fee=suggested.shipping_fee,
            total=suggested.total,
        ),
    )
