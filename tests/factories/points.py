"""Points for tests: granted through the services, and looked at from all sides."""

from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from apps.orders.audit import points as audit
from apps.orders.audit.findings import Finding
from apps.orders.domain import FulfillmentStatus
from apps.orders.models import Order
from apps.orders.selectors import find_order
from apps.orders.services.payment import record_refund_outcome
from apps.orders.services.transitions import advance
from apps.orders.types import OrderView
from apps.payments.services import create_refund
from apps.payments.types import RefundItem, RefundOutcome, RefundStatus
from apps.promotions.points.selectors import movements_of, points_of
from apps.promotions.points.services import grant_points, new_grant_id
from apps.promotions.points.types import PointsView
from infra.sharding.places import place_of_order, place_of_user

CHECKS = (
    audit.entries_are_allowed,
    audit.balances_are_what_was_booked,
    audit.lots_are_what_was_booked,
    audit.points_agree_with_orders,
    audit.lots_expire,
)


def grant(user_id: int, points: int, *, now: datetime | None = None) -> PointsView:
    """Grant points, as the staff do."""
    return grant_points(
        user_id=user_id,
        grant_id=new_grant_id(user_id),
        points=points,
        actor="staff:test",
        reason="A lantern came broken",
        now=now or timezone.now(),
    )


def balance(user_id: int) -> int:
    """Return what a user can spend."""
    return points_of(user_id).balance


def story(user_id: int) -> list[tuple[str, int, int]]:
    """Return kind, points and what was added to the debt of each movement, oldest first."""
    rows = movements_of(user_id, limit=100).rows
    return [(str(row.kind), row.points, row.owed) for row in reversed(rows)]


def complete(order: OrderView) -> None:
    """Take a paid order to its end, as its delivery does."""
    place = place_of_order(order.id)
    for step in (FulfillmentStatus.SHIPPED, FulfillmentStatus.DELIVERED):
        with place.atomic():
            _advance(find_order(order.id), fulfillment_status=step)


def refund(order: OrderView, amount: str, items: dict[str, int]) -> None:
    """Have a part of a paid order's money given back; what is left of it makes the order refunded."""
    now, place = timezone.now(), place_of_order(order.id)
    with place.atomic():
        row = find_order(order.id)
        if row.refunded_total + Decimal(amount) >= row.total:
            _advance(row, refunding=True)
        made = create_refund(
            place,
            order_id=order.id,
            attempt_n=1,
            amount=Decimal(amount),
            reason="",
            items=[RefundItem(sku, quantity) for sku, quantity in items.items()],
            now=now,
        )
    record_refund_outcome(order_id=order.id, n=made.n, try_n=1, outcome=RefundOutcome(RefundStatus.SUCCEEDED), now=now)


def _advance(row: Order, **changes: object) -> None:
    kind, now = str(next(iter(changes))), timezone.now()
    advance(place_of_order(row.id), row, changes=changes, kind=kind, actor="test", detail="", now=now)


def findings(user_id: int, *about: object) -> list[Finding]:
    """Return what the audit finds about the points of a user, or of orders."""
    words = {str(user_id), *(str(each) for each in about)}
    return [
        finding
        for check in CHECKS
        for finding in check(place_of_user(user_id).alias, timezone.now())
        if any(word in finding.subject for word in words)
    ]
