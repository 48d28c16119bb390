"""Figures of each hour for the staff's start page, summed up from the outbox of each shard.

Orders of a day are too many to be counted for a page, so each event is counted once, soon after it happened: a mark
says up to which row of the outbox that is done, and moves in the transaction that adds to the figures. Ids of the
outbox are not in the order of the commits, so only rows older than any open transaction can be (`LAG_S`) are taken.
Sent rows stay for a day: what lies that far behind is missing in the figures, which no account hangs on.
"""

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import OperationalError, connections, transaction

from apps.orders.events import AGGREGATE, CANCELLED, EXPIRED, PAID, PAYMENT_FAILED, PLACED, REFUNDED
from apps.orders.models import FigureMark, OrderFigure
from apps.orders.types import SweepReport
from infra.events.retention import delete_older
from infra.followups.rounds import shard_round
from infra.sharding.places import shard_aliases

LAG_S: Final = 60
BATCH_ROWS: Final = 2000
_BUDGET_S: Final = 5.0
_MARK: Final = 1
# Money that went back to a buyer: part of an event of whichever kind that tells of a refund's success.
REFUND: Final = "refund"
_COUNTED: Final = {f"{AGGREGATE}.{kind}": kind for kind in (PLACED, PAID, PAYMENT_FAILED, CANCELLED, EXPIRED)}
_TELLS_REFUND: Final = frozenset({f"{AGGREGATE}.payment_updated", f"{AGGREGATE}.{REFUNDED}"})
_AMOUNT_OF: Final = {PLACED: "total", PAID: "amount"}

FigureKey = tuple[datetime, str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """So many events of a kind within the hour that begins at `hour`, and the money that they moved."""

    hour: datetime
    kind: str
    currency: str
    count: int
    amount: Decimal


def sum_up_figures(*, now: datetime) -> SweepReport:
    """Bring the figures of every shard up to a minute ago; returns how many events were looked at, by shard.

    Concurrency: the mark's row is locked while a batch is added, so of several processes one counts an event.
    """

    def drain(alias: str) -> int:
        ends_at = time.monotonic() + _BUDGET_S
        count = 0
        while time.monotonic() < ends_at:
            taken = _take_batch(alias, now=now)
            count += taken
            if taken < BATCH_ROWS:
                break
        return count

    return SweepReport(shard_round("figures", drain))


def figures_between(begin: datetime, end: datetime) -> tuple[list[Figure], list[str]]:
    """Return the figures of all shards added up, by hour, and which shards gave no answer; `end` is exclusive."""
    sums: dict[FigureKey, tuple[int, Decimal]] = {}
    unreachable: list[str] = []
    for alias in shard_aliases():
        rows = OrderFigure.objects.using(alias).filter(hour__gte=begin, hour__lt=end)
        try:
            for hour, kind, currency, count, amount in rows.values_list("hour", "kind", "currency", "count", "amount"):
                before = sums.get((hour, kind, currency), (0, Decimal(0)))
                sums[hour, kind, currency] = (before[0] + count, before[1] + amount)
        except OperationalError:
            unreachable.append(alias)
    return [Figure(*key, *value) for key, value in sorted(sums.items())], unreachable


def purge_figures(alias: str, *, before: datetime) -> int:
    """Delete figures of hours before a moment; returns how many rows."""
    return delete_older(alias, table="orders_figure", column="hour", before=before)


def _take_batch(alias: str, *, now: datetime) -> int:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        mark = FigureMark.objects.using(alias).select_for_update().filter(id=_MARK).first()
        if mark is None:
            mark = FigureMark(id=_MARK, outbox_id=0)
            mark.save(using=alias, force_insert=True)
        cursor.execute(
            "SELECT id, type, occurred_at, payload FROM outbox_event WHERE id > %s ORDER BY id LIMIT %s",
            [mark.outbox_id, BATCH_ROWS],
        )
        rows = _settled(cursor.fetchall(), before=now - timedelta(seconds=LAG_S))
        if not rows:
            return 0
        for (hour, kind, currency), (count, amount) in sorted(add_up(rows).items()):
            cursor.execute(
                "INSERT INTO orders_figure (hour, kind, currency, `count`, amount) VALUES (%s, %s, %s, %s, %s) "
                "ON DUPLICATE KEY UPDATE `count` = `count` + %s, amount = amount + %s",
                [hour.replace(tzinfo=None), kind, currency, count, amount, count, amount],
            )
        mark.outbox_id = rows[-1][0]
        mark.save(using=alias, update_fields=["outbox_id"])
    return len(rows)


def _settled(rows: Sequence[tuple[Any, ...]], *, before: datetime) -> list[tuple[Any, ...]]:
    """Return the rows up to the first one that is too young: behind it, one with a lower id may still appear."""
    settled = []
    for row in rows:
        if row[2].replace(tzinfo=UTC) > before:
            break
        settled.append(row)
    return settled


def add_up(rows: Sequence[tuple[Any, ...]]) -> dict[FigureKey, tuple[int, Decimal]]:
    """Return what rows of the outbox (id, type, naive time in UTC, payload) add to the figures."""
    sums: dict[FigureKey, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))

    def add(occurred_at: datetime, kind: str, payload: Mapping[str, Any], amount: str) -> None:
        hour = occurred_at.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
        key = (hour, kind, str(payload.get("currency", "")))
        count, total = sums[key]
        sums[key] = (count + 1, total + Decimal(amount))

    for _, event_type, occurred_at, text in rows:
        kind = _COUNTED.get(event_type)
        if kind is not None:
            payload = json.loads(text)
            add(occurred_at, kind, payload, payload.get(_AMOUNT_OF.get(kind, ""), "0"))
        elif event_type in _TELLS_REFUND:
            payload = json.loads(text)
            if payload.get("refund") == "succeeded":
                add(occurred_at, REFUND, payload, payload["amount"])
    return dict(sums)
