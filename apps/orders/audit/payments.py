"""Payments against the states of their orders: one shard has all rows of an order, so a statement is a snapshot."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings

from apps.orders.audit.findings import REFUND_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, MonthTables, fetch, months_of, utc
from apps.orders.models import OrderKind
from apps.payments.models import Difference, SettlementRun
from apps.payments.services import POLL, REFUND
from apps.payments.types import (
    DECIDED_REFUNDS,
    OPEN_ATTEMPTS,
    OPEN_REFUNDS,
    VOID_REFUNDS,
    AttemptStatus,
    DifferenceState,
    RefundStatus,
)
from infra.followups.services import schedule
from infra.sharding.places import place_of_order

# Past orders that were imported were paid elsewhere and have no payments here.
_RUN_BOUND: Final = timedelta(days=1)

_OURS = f"o.kind = {OrderKind.REAL:d} AND o.source = ''"


def _words(statuses: Iterable[str]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


def money_agrees_with_the_order(alias: str, now: datetime) -> Iterator[Finding]:
    """What was captured for an order and given back of it is what its payment status and totals say."""
    for month in months_of(alias):
        rows = fetch(alias, _money_statement(month))
        for order_id, status, total, refunded_total, captured, refunded in rows:
            yield Finding(
                "payments",
                alias,
                f"order {order_id}",
                f"{status}: total {total:f}, refunded {refunded_total:f}; "
                f"payments captured {captured:f} and gave back {refunded:f}",
            )


def _money_statement(month: MonthTables) -> str:
    captured, refunded = "COALESCE(a.captured, 0)", "COALESCE(r.refunded, 0)"
    return (
        f"SELECT o.id, o.payment_status, o.total, o.refunded_total, {captured}, {refunded} "
        f"FROM {month.order} o "
        "LEFT JOIN (SELECT slot, order_id, SUM(captured_amount) AS captured "
        f"FROM {month.attempt} WHERE NOT unexpected GROUP BY slot, order_id) a "
        "ON a.slot = o.slot AND a.order_id = o.id "
        "LEFT JOIN (SELECT slot, order_id, SUM(amount) AS refunded "
        f"FROM {month.refund} WHERE status = 'succeeded' AND NOT unexpected GROUP BY slot, order_id) r "
        "ON r.slot = o.slot AND r.order_id = o.id "
        f"WHERE {_OURS} AND NOT (o.refunded_total = {refunded} AND CASE o.payment_status "
        f"WHEN 'paid' THEN {captured} = o.total AND {refunded} = 0 "
        f"WHEN 'partially_refunded' THEN {captured} = o.total AND {refunded} > 0 AND {refunded} < {captured} "
        f"WHEN 'refunded' THEN {captured} = o.total AND {refunded} = {captured} "
        f"ELSE {captured} = 0 AND {refunded} = 0 END) LIMIT {MAX_FINDINGS}"
    )


def holds_agree_with_the_order(alias: str, now: datetime) -> Iterator[Finding]:
    """An order is `authorized` exactly while the money of one of its attempts is held."""
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT o.id, o.payment_status, COUNT(a.n) FROM {month.order} o LEFT JOIN {month.attempt} a "
            f"ON a.slot = o.slot AND a.order_id = o.id AND a.status = '{AttemptStatus.AUTHORIZED}' WHERE {_OURS} "
            "GROUP BY o.slot, o.id, o.payment_status "
            f"HAVING COUNT(a.n) <> IF(o.payment_status = 'authorized', 1, 0) LIMIT {MAX_FINDINGS}",
        )
        for order_id, status, count in rows:
            yield Finding("payments", alias, f"order {order_id}, hold", f"{status}, and {count} payments are held")


def refunds_within_capture(alias: str, now: datetime) -> Iterator[Finding]:
    """Each attempt's claimed refunds are its refunds, and money that came unexpectedly has one."""
    for month in months_of(alias):
        claimed = "COALESCE(r.claimed, 0)"
        rows = fetch(
            alias,
            f"SELECT a.order_id, a.n, a.captured_amount, a.refund_claimed, {claimed}, a.unexpected "
            f"FROM {month.attempt} a LEFT JOIN (SELECT slot, order_id, attempt_n, SUM(amount) AS claimed "
            f"FROM {month.refund} WHERE status NOT IN ({_words(VOID_REFUNDS)}) "
            "GROUP BY slot, order_id, attempt_n) r "
            "ON r.slot = a.slot AND r.order_id = a.order_id AND r.attempt_n = a.n "
            f"WHERE a.refund_claimed <> {claimed} OR a.refund_claimed > a.captured_amount "
            f"OR (a.unexpected AND a.refund_claimed < a.captured_amount) LIMIT {MAX_FINDINGS}",
        )
        for order_id, n, captured, counted, refunds, unexpected in rows:
            yield Finding(
                "payments",
                alias,
                f"payment pay_{order_id}_{n}",
                f"captured {captured:f}{' unexpectedly' if unexpected else ''}, "
                f"refunds claimed {counted:f}, refunds {refunds:f}",
            )


def refunds_agree_with_the_lines(alias: str, now: datetime) -> Iterator[Finding]:
    """No line has more units refunded than bought, and each line knows which of its units were."""
    # The server's JSON has no ASCII collation, under which SKUs are told apart: they are compared byte for byte.
    units = "JSON_TABLE(r.items, '$[*]' COLUMNS (sku VARCHAR(64) PATH '$.sku', quantity INT PATH '$.quantity')) i"
    asked = f"SUM(IF(r.status NOT IN ({_words(VOID_REFUNDS)}), i.quantity, 0))"
    refunded = f"SUM(IF(r.status = '{RefundStatus.SUCCEEDED}', i.quantity, 0))"
    returned = f"SUM(IF(r.status IN ({_words(DECIDED_REFUNDS)}) AND r.returns_stock, i.quantity, 0))"
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT l.order_id, l.line, l.quantity, l.refunded_quantity, l.returned_quantity, {asked}, {refunded}, "
            f"{returned} FROM {month.refund} r JOIN {units} JOIN {month.line} l ON l.slot = r.slot "
            "AND l.order_id = r.order_id AND CAST(l.sku AS BINARY) = CAST(i.sku AS BINARY) WHERE NOT r.unexpected "
            "GROUP BY l.slot, l.order_id, l.line, l.quantity, l.refunded_quantity, l.returned_quantity "
            f"HAVING {asked} > l.quantity OR {refunded} <> l.refunded_quantity "
            f"OR {returned} > l.returned_quantity LIMIT {MAX_FINDINGS}",
        )
        for order_id, line, bought, known, back, asked_for, given, to_stock in rows:
            yield Finding(
                "payments",
                alias,
                f"order {order_id}, line {line}, refunds",
                f"{bought} bought, {asked_for} asked for; {given} refunded, the line says {known}; "
                f"{to_stock} to go back into stock, the line says {back}",
            )


def open_payments_are_followed(alias: str, now: datetime) -> Iterator[Finding]:
    """Every open attempt and refund has its follow-up, without which nobody would ask the provider again."""
    for month in months_of(alias):
        for table, statuses, kind, prefix in (
            (month.attempt, OPEN_ATTEMPTS, POLL, "pay"),
            (month.refund, OPEN_REFUNDS, REFUND, "re"),
        ):
            rows = fetch(
                alias,
                f"SELECT p.order_id, p.n, p.status FROM {table} p LEFT JOIN followups_followup f "
                "ON f.slot = p.slot AND f.order_id = p.order_id AND f.kind = %s AND f.n = p.n "
                f"WHERE p.status IN ({_words(statuses)}) AND f.order_id IS NULL LIMIT {MAX_FINDINGS}",
                [kind],
            )
            for order_id, n, status in rows:
                yield Finding(
                    "follow-ups",
                    alias,
                    f"{prefix}_{order_id}_{n}",
                    f"{status}, and no {kind} is owed",
                    mend=partial(_owe, kind, order_id, n),
                )


def refunding_ends(alias: str, now: datetime) -> Iterator[Finding]:
    """An order is `refunding` only while a refund of it is open, or failed and so the staff's."""
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT o.id, o.updated_at FROM {month.order} o WHERE {_OURS} AND o.refunding AND NOT EXISTS "
            f"(SELECT 1 FROM {month.refund} r WHERE r.slot = o.slot AND r.order_id = o.id AND NOT r.unexpected "
            f"AND r.status IN ({_words(OPEN_REFUNDS | {RefundStatus.FAILED})})) LIMIT {MAX_FINDINGS}",
        )
        for order_id, updated_at in rows:
            yield Finding(
                "payments",
                alias,
                f"order {order_id}, refunding",
                "no refund of it is open",
                since=utc(updated_at),
                bound_s=REFUND_BOUND_S,
            )


def _owe(kind: str, order_id: int, n: int, now: datetime) -> None:
    place = place_of_order(order_id)
    with place.atomic():
        schedule(place, kind=kind, order_id=order_id, n=n, due_at=now, now=now)


def reconciliation_goes_on(alias: str, now: datetime) -> Iterator[Finding]:
    """No day of a provider stays half compared, and no difference lies about for weeks."""
    runs = SettlementRun.objects.using(alias).filter(finished_at=None, started_at__lt=now - _RUN_BOUND)
    for run in runs[:MAX_FINDINGS]:
        yield Finding("payments", alias, f"settlement of {run.day} at {run.provider}", "is compared only in part")
    differences = Difference.objects.using(alias).filter(
        state=DifferenceState.OPEN, found_at__lt=now - timedelta(days=settings.PAYMENT_DIFFERENCE_DAYS)
    )
    for difference in differences.order_by("since")[:MAX_FINDINGS]:
        yield Finding(
            "payments",
            alias,
            f"difference {difference.reference}",
            f"{difference.kind} of {difference.day} at {difference.provider}, and nobody has resolved it",
        )
