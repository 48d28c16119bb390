"""Makes an order of a request: everything about placing that can fail without a claim.

The address is read last and for many drafts at once, since that is the only part that asks a database for each order.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from msgspec import Struct
from msgspec.structs import replace

from apps.catalog.selectors import prices
from apps.catalog.types import SkuPrice
from apps.inventory.types import Claim
from apps.orders.domain import (
    FulfillmentStatus,
    MergedLine,
    OrderStatus,
    PaymentStatus,
    Totals,
    line_total,
    merge_lines,
    no_money,
    pay_in_part,
    round_money,
    totals_of,
)
from apps.orders.errors import CurrencyMismatch, PriceChanged
from apps.orders.pricing import PricedLine
from apps.orders.services.points import pay_with_points
from apps.orders.services.shipping_fee import shipping_is_free, shipping_rule
from apps.orders.types import OrderLineView, OrderRequest, OrderView
from apps.promotions.points.types import Spending
from apps.promotions.types import Redemption
from apps.users.selectors import address_snapshots
from apps.users.types import AddressSnapshot
from infra.errors import FieldError, ValidationFailed
from infra.idempotency.types import RequestKey
from infra.outbox.services import request_headers
from infra.sharding.ids import time_of
from infra.sharding.workers import new_order_id


class Wishes(Struct, frozen=True):
    """What an order asks for beyond its goods, to be priced with what its shopper's shard knows.

    `coupons` are held coupons as the client named them, `lines` the order's lines as coupons see them.
    """

    coupons: tuple[str, ...]
    points: int
    lines: tuple[PricedLine, ...]
    expected_total: Decimal | None


class OrderDraft(Struct, frozen=True):
    """An order that is neither claimed nor written; complete once it has its address and its wishes are priced.

    `points_wanted` are those that the shopper asked to use; the order uses as many as it may be paid with.
    """

    order: OrderView
    key: RequestKey
    address_id: int
    sealed_address: str
    exempt: bool
    first_index: Mapping[str, int]
    event_headers: str
    wishes: Wishes | None = None
    redemptions: tuple[Redemption, ...] = ()
    points_wanted: int = 0

    @property
    def claim(self) -> Claim:
        """What it asks of the stock: merged SKUs, ascending."""
        return Claim(
            order_id=self.order.id,
            user_id=self.order.user_id,
            request_digest=self.key.digest,
            lines=tuple(sorted((item.sku, item.quantity) for item in self.order.items)),
        )

    @property
    def spending(self) -> Spending:
        """What it asks of the points of its shopper."""
        return Spending(self.order.id, self.order.user_id, self.order.points_used)


class Basket(Struct, frozen=True):
    """Goods of one currency that are on sale, merged and priced."""

    currency: str
    merged: Sequence[MergedLine]
    prices: Mapping[str, SkuPrice]
    items: tuple[OrderLineView, ...]

    def lines(self) -> tuple[PricedLine, ...]:
        """Return the lines as coupons see them."""
        return tuple(
            [
                PricedLine(item.sku, self.prices[item.sku].product_id, self.prices[item.sku].category, item.line_total)
                for item in self.items
            ]
        )


def draft_order(request: OrderRequest) -> OrderDraft:
    """Price and check a request; returns the order under a fresh id, still without its address.

    Raises ValidationFailed (unknown SKU, too many of one), CurrencyMismatch, PriceChanged. Nothing is written, and
    whether the shopper has as many points is not known yet. An order that names coupons is priced without them, and
    without points, for now (services/discounting.py goes on).
    """
    basket = fill_basket(request.items)
    currency, items, points_used = basket.currency, basket.items, 0
    line_totals = [item.line_total for item in items]
    if shipping_is_free():
        totals = totals_of(line_totals, currency=currency)
    else:
        fee = shipping_rule(currency).fee_for(sum(line_totals, Decimal(0)))
        totals = totals_of(line_totals, currency=currency, shipping_fee=fee)
    wishes = None
    if request.coupons:
        wishes = Wishes(
            coupons=request.coupons,
            points=request.points,
            lines=basket.lines(),
            expected_total=request.expected_total,
        )
    else:
        if request.points:
            items, use = pay_with_points(items, request.points, currency=currency)
            points_used, totals = use.points, pay_in_part(totals, use.value, currency=currency)
        check_expected_total(request.expected_total, totals)
    return OrderDraft(
        order=new_order(request, items=items, totals=totals, currency=currency, points_used=points_used),
        key=request.key,
        address_id=request.address_id,
        sealed_address="",
        exempt=request.exempt,
        first_index={line.sku: line.first_index for line in basket.merged},
        event_headers=request_headers(),
        wishes=wishes,
        points_wanted=request.points,
    )


def fill_basket(wanted: Sequence[tuple[str, int]]) -> Basket:
    """Merge and price (SKU, quantity) as a client wrote them.

    Raises ValidationFailed (unknown SKU, too many of one), CurrencyMismatch.
    """
    merged = merge_lines(wanted)
    priced = _priced(merged)
    currency = _common_currency(merged, priced)
    items = tuple([_line(number, line, priced[line.sku], currency) for number, line in enumerate(merged, start=1)])
    return Basket(currency, merged, priced, items)


def _line(number: int, line: MergedLine, price: SkuPrice, currency: str) -> OrderLineView:
    return OrderLineView(
        line=number,
        sku=line.sku,
        title=price.title,
        quantity=line.quantity,
        unit_price=round_money(price.unit_price, currency),
        line_total=line_total(unit_price=price.unit_price, quantity=line.quantity, currency=currency),
        discount=no_money(currency),
        points_value=no_money(currency),
        refunded_quantity=0,
    )


def with_addresses(alias: str, drafts: Sequence[OrderDraft]) -> list[OrderDraft | ValidationFailed]:
    """Return the drafts of one shard with their addresses, in the order given; a refusal where there is none."""
    found = address_snapshots(alias, {(draft.key.user_id, draft.address_id) for draft in drafts})
    return [_with_address(draft, found.get((draft.key.user_id, draft.address_id))) for draft in drafts]


def _with_address(draft: OrderDraft, address: AddressSnapshot | None) -> OrderDraft | ValidationFailed:
    if address is None:
        return _no_such_address()
    return replace(draft, order=replace(draft.order, address=address.members), sealed_address=address.sealed)


def check_address(alias: str, user_id: int, address_id: int) -> None:
    """Raise ValidationFailed unless the user has this address."""
    if not address_snapshots(alias, {(user_id, address_id)}):
        raise _no_such_address()


def _no_such_address() -> ValidationFailed:
    detail = "There is no such address."
    return ValidationFailed(detail, errors=[FieldError("/address_id", "unknown_address", detail)])


def new_order(
    request: OrderRequest,
    *,
    items: tuple[OrderLineView, ...],
    totals: Totals,
    currency: str,
    points_used: int = 0,
) -> OrderView:
    """Return an order under a fresh id, as it is when it is placed, still without its address."""
    order_id = new_order_id(request.key.user_id)
    placed_at = time_of(order_id)
    return OrderView(
        id=order_id,
        user_id=request.key.user_id,
        status=OrderStatus.PENDING_PAYMENT,
        payment_status=PaymentStatus.UNPAID,
        fulfillment_status=FulfillmentStatus.NONE,
        currency=currency,
        subtotal=totals.subtotal,
        discount=totals.discount,
        points_used=points_used,
        points_value=totals.points_value,
        shipping_fee=totals.shipping_fee,
        total=totals.total,
        refunded_total=no_money(currency),
        items=items,
        address={},
        coupons=(),
        note=request.note,
        cancel_reason="",
        placed_at=placed_at,
        expires_at=placed_at + timedelta(seconds=settings.ORDER_UNPAID_EXPIRY_S),
        paid_at=None,
        updated_at=placed_at,
        version=1,
    )


def _priced(merged: Sequence[MergedLine]) -> Mapping[str, SkuPrice]:
    """Return the prices of all SKUs; raises ValidationFailed that names every failing line."""
    found = prices([line.sku for line in merged])
    max_quantity = settings.ORDER_MAX_QUANTITY
    errors = []
    for line in merged:
        price = found.get(line.sku)
        if price is None or not price.active:
            errors.append(FieldError(f"/items/{line.first_index}/sku", "unknown_sku", "There is no such SKU on sale."))
        if line.quantity > max_quantity:
            errors.append(
                FieldError(
                    f"/items/{line.first_index}/quantity",
                    "max_value",
                    f"An order takes at most {max_quantity} of one SKU.",
                )
            )
    if errors:
        raise ValidationFailed("Some lines cannot be ordered.", errors=errors)
    return found


def _common_currency(merged: Sequence[MergedLine], priced: Mapping[str, SkuPrice]) -> str:
    currency: str = priced[merged[0].sku].currency
    if len(merged) == 1:
        return currency
    errors = [
        FieldError(f"/items/{line.first_index}/sku", "currency_mismatch", f"This SKU is priced in {other}.")
        for line in merged
        if (other := priced[line.sku].currency) != currency
    ]
    if errors:
        raise CurrencyMismatch("All lines of an order have one currency.", errors=errors)
    return currency


def check_expected_total(expected_total: Decimal | None, totals: Totals) -> None:
    """Raise PriceChanged when the client expected another total."""
    if expected_total is not None and expected_total != totals.total:
        detail = f"The total is {totals.total}."
        raise PriceChanged(
            detail, errors=[FieldError("/expected_total", "price_changed", detail, {"total": str(totals.total)})]
        )
