"""Points of orders: spent when they are placed, and after each later change of an order just as its state asks.

`advance_all` calls `follow_transitions` for every change of orders, so that no way of closing or completing one can
forget them; a refund that has succeeded is settled where the quantities of its lines are noted.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.conf import settings
from msgspec.structs import replace

from apps.orders.domain import FulfillmentStatus, OrderStatus, PaymentStatus, split_amount
from apps.orders.errors import InsufficientPoints
from apps.orders.models import Order, OrderLine
from apps.orders.point_rules import LinePart, PointsUse, points_back, points_clawed_back, points_earned, points_use
from apps.orders.types import OrderLineView
from apps.promotions.points.errors import PointsMismatch, PointsShort
from apps.promotions.points.selectors import balances_of, earned_by
from apps.promotions.points.services import earn, restore, settle_refund, spend
from apps.promotions.points.types import Earning, Settlement, Spending
from infra.dynamic.definitions import DynamicInteger
from infra.errors import FieldError, ValidationFailed
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import Place

_log = logging.getLogger(__name__)

MAX_SHARE_PERCENT: Final = DynamicInteger(
    "points.spend.max_percent",
    default=50,
    minimum=0,
    maximum=99,
    meaning="Points pay at most so many percent of an order's goods, after discounts.",
)
EARNED_PER_MILLE: Final = DynamicInteger(
    "points.earn.per_mille",
    default=10,
    minimum=0,
    maximum=1000,
    meaning="A completed order earns points worth so many thousandths of what was paid for its goods (0: none).",
)
_CLOSED_UNPAID: Final = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED})
_MAY_HAVE_EARNED: Final = frozenset({FulfillmentStatus.DELIVERED, FulfillmentStatus.RETURNED})


def pay_with_points(
    items: tuple[OrderLineView, ...], wanted: int, *, currency: str
) -> tuple[tuple[OrderLineView, ...], PointsUse]:
    """Return the lines with their shares of what points pay, and how many points of those wanted are used for it.

    The lines have their shares of the discount already. Raises ValidationFailed for a currency without a value of
    points. Asks nobody: whether the shopper has them is known when they are spent.
    """
    point_value = settings.POINTS_VALUE.get(currency)
    if point_value is None:
        detail = f"Points cannot be used for orders in {currency}."
        raise ValidationFailed(detail, errors=[FieldError("/points", "not_usable", detail)])
    payable = [item.line_total - item.discount for item in items]
    use = points_use(
        wanted,
        payable=sum(payable, Decimal(0)),
        max_percent=MAX_SHARE_PERCENT.value,
        point_value=point_value,
        currency=currency,
    )
    shares = split_amount(use.value, payable, currency=currency)
    return tuple([replace(item, points_value=share) for item, share in zip(items, shares, strict=True)]), use


def points_at_hand(alias: str, user_ids: Collection[int]) -> Counter[int]:
    """Return what users of a shard have, read without locks: a first look, for which `spend_points` has the last word.

    Asks nothing for nobody.
    """
    return Counter(balances_of(alias, user_ids))


def insufficient_points() -> InsufficientPoints:
    """Return the refusal."""
    detail = "You do not have as many points."
    return InsufficientPoints(detail, errors=[FieldError("/points", "insufficient_points", detail)])


def spend_points(alias: str, spendings: Sequence[Spending], *, now: datetime) -> None:
    """Spend the points of new orders, in the transaction that writes them; costs nothing where none uses any.

    Raises InsufficientPoints when one of the shoppers has fewer than all of theirs use.
    """
    if not spendings:
        return
    try:
        spend(alias, spendings, now=now)
    except PointsShort as error:
        raise insufficient_points() from error
    except (
        PointsMismatch
    ) as error:  # damaged rows, which the audit tells of: their owner cannot spend until it is mended
        _log.exception("points that no lot covers")
        raise insufficient_points() from error


def follow_transitions(alias: str, before: Sequence[Order], after: Sequence[Order], *, now: datetime) -> None:
    """Restore the points of orders that have been closed unpaid, and credit those of orders that have completed.

    Called in the transaction of the change, after its compare-and-set, so it happens once with it.
    """
    reached = [
        (order, OrderStatus(order.status))
        for old, order in zip(before, after, strict=True)
        if order.status != old.status
    ]
    closed = [order for order, status in reached if status in _CLOSED_UNPAID and order.points_used]
    if closed:
        restore(alias, [Spending(order.id, order.user_id, order.points_used) for order in closed], now=now)
    completed = [
        order
        for order, status in reached
        if status == OrderStatus.COMPLETED and order.currency in settings.POINTS_VALUE
    ]
    if completed and EARNED_PER_MILLE.value:
        earn(alias, _earnings(alias, completed), now=now)


def settle_points(place: Place, order: Order, *, refund_n: int, now: datetime) -> None:
    """Give back and take back what a refund of the order leaves, in the transaction in which it has succeeded.

    `order` is as the refund leaves it, and the refunded quantities of its lines are noted already.
    """
    earned = earned_by(place.alias, order.id) if order.fulfillment_status in _MAY_HAVE_EARNED else 0
    if not order.points_used and not earned:
        return
    restored, clawed_back = order.points_used, earned
    if order.payment_status != PaymentStatus.REFUNDED:
        [lines] = _lines_of(place.alias, [order]).values()
        restored = points_back(order.points_used, [_part(line, line.points_value) for line in lines])
        clawed_back = points_clawed_back(earned, [_part(line, _paid(line)) for line in lines])
    settlement = Settlement(order.id, order.user_id, refund_n, restored=restored, clawed_back=clawed_back)
    settle_refund(place.alias, settlement, now=now)


def _earnings(alias: str, orders: Sequence[Order]) -> list[Earning]:
    lines = _lines_of(alias, orders)
    earnings = []
    for order in orders:
        points = points_earned(
            sum((_paid(line) for line in lines[order.id]), Decimal(0)),
            per_mille=EARNED_PER_MILLE.value,
            point_value=settings.POINTS_VALUE[order.currency],
        )
        clawed_back = points_clawed_back(points, [_part(line, _paid(line)) for line in lines[order.id]])
        earnings.append(Earning(order.id, order.user_id, points, clawed_back))
    return earnings


def _lines_of(alias: str, orders: Sequence[Order]) -> Mapping[int, Sequence[OrderLine]]:
    """Return the lines of orders of one shard, one statement a month."""
    lines: dict[int, list[OrderLine]] = {order.id: [] for order in orders}
    by_month: dict[Month, list[int]] = defaultdict(list)
    for order_id in lines:
        by_month[Month.of_id(order_id)].append(order_id)
    for month, members in by_month.items():
        rows = OrderLine.objects.in_month(alias, month)
        for line in rows.filter(slot__in={slot_of(order_id) for order_id in members}, order_id__in=members):
            lines[line.order_id].append(line)
    return lines


def _paid(line: OrderLine) -> Decimal:
    """Return what a line's buyer has paid for it in money."""
    return Decimal(line.line_total) - Decimal(line.discount) - Decimal(line.points_value)


def _part(line: OrderLine, weight: Decimal) -> LinePart:
    return LinePart(Decimal(weight), line.quantity, line.refunded_quantity)
