"""Reads of payments: attempts and refunds of one order, always through the order's place."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from django.db.models import QuerySet

from apps.payments.domain import OPEN_ATTEMPTS, AttemptStatus, RefundStatus, payment_id, refund_id
from apps.payments.models import Attempt, Callback, Refund
from apps.payments.types import AttemptView, RefundItem, RefundView
from infra.sharding.ids import slot_of
from infra.sharding.monthly import existing_months
from infra.sharding.months import Month
from infra.sharding.places import Place

_STAFF_MONTHS: Final = 13
_FOR_STAFF: Final = (RefundStatus.REQUESTED, RefundStatus.FAILED)


def attempts_at(place: Place, order_id: int) -> QuerySet[Attempt]:
    """Return the rows of an order's attempts, within a place that the caller has a transaction on."""
    rows: QuerySet[Attempt] = Attempt.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id)
    return rows


def refunds_at(place: Place, order_id: int) -> QuerySet[Refund]:
    """Return the rows of an order's refunds, within a place that the caller has a transaction on."""
    rows: QuerySet[Refund] = Refund.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id)
    return rows


def attempts_of(order_id: int) -> list[AttemptView]:
    """Return the attempts to pay an order, oldest first."""
    rows = Attempt.objects.for_order(order_id).filter(order_id=order_id).order_by("n")
    return [attempt_view(row) for row in rows]


def orders_with_open_attempts(alias: str, order_ids: Iterable[int]) -> set[int]:
    """Return which of the orders of one shard have an attempt that can still be paid; one statement a month."""
    by_month: dict[Month, list[int]] = defaultdict(list)
    for order_id in order_ids:
        by_month[Month.of_id(order_id)].append(order_id)
    found: set[int] = set()
    for month, members in by_month.items():
        rows = Attempt.objects.in_month(alias, month).filter(
            slot__in={slot_of(order_id) for order_id in members}, order_id__in=members, status__in=OPEN_ATTEMPTS
        )
        found.update(rows.values_list("order_id", flat=True))
    return found


def get_attempt(order_id: int, n: int) -> AttemptView | None:
    """Return one attempt, or None."""
    row = Attempt.objects.for_order(order_id).filter(order_id=order_id, n=n).first()
    return None if row is None else attempt_view(row)


def refunds_of(order_id: int) -> list[RefundView]:
    """Return the refunds of an order, oldest first."""
    rows = Refund.objects.for_order(order_id).filter(order_id=order_id).order_by("n")
    return [refund_view(row) for row in rows]


def get_refund(order_id: int, n: int) -> RefundView | None:
    """Return one refund, or None."""
    row = Refund.objects.for_order(order_id).filter(order_id=order_id, n=n).first()
    return None if row is None else refund_view(row)


def accepted_attempt(order_id: int) -> AttemptView | None:
    """Return the attempt whose money pays the order, or None while there is none."""
    accepted = [a for a in attempts_of(order_id) if a.status == AttemptStatus.SUCCEEDED and not a.unexpected]
    return accepted[0] if accepted else None


def refunds_for_staff(alias: str, *, limit: int) -> list[RefundView]:
    """Return the refunds of one shard that wait for the staff: requested or failed, newest months first.

    Bounded: `_STAFF_MONTHS` months back, by the index on the status.
    """
    found: list[RefundView] = []
    for month in sorted(existing_months(alias), reverse=True)[:_STAFF_MONTHS]:
        rows = Refund.objects.in_month(alias, month).filter(status__in=_FOR_STAFF).order_by("order_id", "n")
        found += [refund_view(row) for row in rows[: limit - len(found)]]
        if len(found) == limit:
            break
    return found


def authorized_attempt(order_id: int) -> AttemptView | None:
    """Return the attempt whose money is held for the order, or None."""
    held = [a for a in attempts_of(order_id) if a.status == AttemptStatus.AUTHORIZED]
    return held[0] if held else None


def alerted_callbacks(alias: str, *, limit: int) -> list[Callback]:
    """Return the latest deliveries of one shard that the staff have to look at."""
    return list(Callback.objects.on_shard(alias).filter(alert=True).order_by("-received_at")[:limit])


def attempt_view(row: Attempt) -> AttemptView:
    """Return the value that leaves this app for a row."""
    return AttemptView(
        order_id=row.order_id,
        n=row.n,
        payment_id=payment_id(row.order_id, row.n),
        provider=row.provider,
        method=row.method,
        status=AttemptStatus(row.status),
        amount=Decimal(row.amount),
        currency=row.currency,
        captured_amount=Decimal(row.captured_amount),
        refund_claimed=Decimal(row.refund_claimed),
        unexpected=row.unexpected,
        superseded=row.superseded,
        capture_owed=row.capture_owed,
        provider_id=row.provider_id,
        redirect_url=row.redirect_url,
        return_url=row.return_url,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def refund_view(row: Refund) -> RefundView:
    """Return the value that leaves this app for a row."""
    return RefundView(
        order_id=row.order_id,
        n=row.n,
        refund_id=refund_id(row.order_id, row.n),
        attempt_n=row.attempt_n,
        status=RefundStatus(row.status),
        amount=Decimal(row.amount),
        currency=row.currency,
        reason=row.reason,
        items=tuple(RefundItem(item["sku"], item["quantity"], Decimal(item.get("amount", 0))) for item in row.items),
        unexpected=row.unexpected,
        tries=row.tries,
        returns_stock=row.returns_stock,
        outside=row.outside,
        decided_by=row.decided_by,
        decision=row.decision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
