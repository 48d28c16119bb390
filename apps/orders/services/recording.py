"""Writes placed orders: the statements of one transaction on one shard, for a batch of any size.

Plain multi-row SQL instead of ORM objects: this is the hottest write of the system, and its cost is the number of
statements and of Python objects.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections
from lru import LRU

from apps.orders.events import PLACED, order_event_draft
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.orders.services.drafting import OrderDraft
from apps.users.services import note_order_months
from infra.crypto.cipher import encrypt_text
from infra.idempotency.services import remember_many
from infra.mysql.literals import binary, moment, text, word
from infra.outbox.services import append
from infra.outbox.types import EventDraft
from infra.sharding.ids import slot_of
from infra.sharding.monthly import MonthlyModel, telling_month_errors
from infra.sharding.months import Month

ORDER_COLUMNS: Final = (
    "slot", "id", "user_id", "kind", "version", "payment_status", "fulfillment_status", "closed_as", "refunding",
    "status", "currency", "subtotal", "discount", "points_used", "points_value", "shipping_fee", "total",
    "refunded_total", "address", "city", "country", "coupons", "note", "cancel_reason", "request_digest", "source",
    "source_number", "expires_at", "updated_at",
)  # fmt: skip
LINE_COLUMNS: Final[tuple[str, ...]] = (
    "slot", "order_id", "line", "sku", "title", "quantity", "unit_price", "line_total", "refunded_quantity",
)  # fmt: skip
SHARE_COLUMNS: Final = ("discount", "points_value")
EVENT_COLUMNS: Final = ("slot", "order_id", "version", "kind", "at", "actor", "detail")
# The last month in which each customer is known to have ordered.
_noted: "Final[LRU[int, int]]" = LRU(100_000)


def insert_orders(alias: str, drafts: Sequence[OrderDraft], *, now: datetime) -> None:
    """Write key, order, lines, order event and outbox row of each draft inside the open transaction of the shard.

    Raises KeyTaken when a key of the batch is taken, IntegrityError (1062) when the id of an order is (a tombstone).
    """
    remember_many(alias, [(draft.key, str(draft.order.id)) for draft in drafts], now=now)
    for month, members in _by_month(drafts).items():
        _insert(alias, Order, month, ORDER_COLUMNS, rows=[_order_row(draft) for draft in members])
        _insert_lines(alias, month, members)
        _insert(alias, OrderEvent, month, EVENT_COLUMNS, rows=[_event_row(draft) for draft in members])
        note_order_months(alias, _users_to_note(members, month), month)
    append(alias, *(_placed_event(draft) for draft in drafts), now=now)


def _insert_lines(alias: str, month: Month, drafts: Sequence[OrderDraft]) -> None:
    """Write the lines; their shares of discount and points are named only where an order has some."""
    shared = any(draft.order.discount or draft.order.points_value for draft in drafts)
    columns = LINE_COLUMNS + SHARE_COLUMNS if shared else LINE_COLUMNS
    rows = [row for draft in drafts for row in _line_rows(draft, shared=shared)]
    _insert(alias, OrderLine, month, columns, rows=rows)


def remember_noted_months(drafts: Sequence[OrderDraft]) -> None:
    """Remember, after the commit, that these customers' months are noted: they stay so, and need no statement."""
    for month, members in _by_month(drafts).items():
        if users := _users_to_note(members, month):
            _noted.update(dict.fromkeys(users, month.number))


def _by_month(drafts: Sequence[OrderDraft]) -> Mapping[Month, Sequence[OrderDraft]]:
    """Sort drafts by the months of their ids; ids grow with time, so nearly always the ends tell that it is one."""
    if not drafts:
        return {}
    ids = [draft.order.id for draft in drafts]
    first = Month.of_id(min(ids))
    if first == Month.of_id(max(ids)):
        return {first: drafts}
    by_month: dict[Month, list[OrderDraft]] = defaultdict(list)
    for draft in drafts:
        by_month[Month.of_id(draft.order.id)].append(draft)
    return by_month


def _users_to_note(drafts: Sequence[OrderDraft], month: Month) -> list[int]:
    """Return the customers who are not known to have ordered in the month."""
    number = month.number
    return [draft.order.user_id for draft in drafts if _noted.get(draft.order.user_id) != number]


def insert_rows(
    alias: str,
    model: type[MonthlyModel],
    month: Month,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows into a month's table in one statement."""
    row_marks = "(" + ", ".join(["%s"] * len(columns)) + ")"
    values = [value for row in rows for value in row]
    _insert(alias, model, month, columns, rows=[row_marks] * len(rows), parameters=values)


def _insert(
    alias: str,
    model: type[MonthlyModel],
    month: Month,
    columns: Sequence[str],
    *,
    rows: Sequence[str],
    parameters: Sequence[Any] | None = None,
) -> None:
    """Insert rows written as SQL: as literals, or as marks for the parameters."""
    with telling_month_errors(table=model.table, month=month, alias=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model.objects.table_for(month)} ({', '.join(f'`{column}`' for column in columns)})"  # noqa: S608  # constants
            f" VALUES {', '.join(rows)}",
            parameters,
        )


def column_time(at: datetime) -> datetime:
    """Return the naive UTC time that a DATETIME column stores."""
    return at.astimezone(UTC).replace(tzinfo=None)


def _order_row(draft: OrderDraft) -> str:
    order = draft.order
    return (
        f"({slot_of(order.id)},{order.id},{order.user_id},0,{order.version},"
        f"'{order.payment_status}','{order.fulfillment_status}','',0,'{order.status}',{word(order.currency)},"
        f"{order.subtotal},{order.discount},{order.points_used},{order.points_value},{order.shipping_fee},"
        f"{order.total},{order.refunded_total},{text(draft.sealed_address)},"
        f"{word(order.address['city'])},{word(order.address['country'])},{text(','.join(order.coupons))},"
        f"{text(encrypt_text(order.note) if order.note else '')},'',{binary(draft.key.digest)},'','',"
        f"{'NULL' if order.expires_at is None else moment(order.expires_at)},{moment(order.updated_at)})"
    )


def _line_rows(draft: OrderDraft, *, shared: bool) -> list[str]:
    order_id = draft.order.id
    key = f"({slot_of(order_id)},{order_id}"
    return [
        f"{key},{item.line},{word(item.sku)},{word(item.title)},{item.quantity},{item.unit_price},{item.line_total},0"
        + (f",{item.discount},{item.points_value})" if shared else ")")
        for item in draft.order.items
    ]


def _event_row(draft: OrderDraft) -> str:
    order = draft.order
    return f"({slot_of(order.id)},{order.id},{order.version},'{PLACED}',{moment(order.placed_at)},'shopper','')"


def _placed_event(draft: OrderDraft) -> EventDraft:
    order = draft.order
    return order_event_draft(
        PLACED,
        order_id=order.id,
        user_id=order.user_id,
        version=order.version,
        status=order.status,
        payment_status=order.payment_status,
        headers=draft.event_headers,
        payload={
            "currency": order.currency,
            "total": str(order.total),
            "city": order.address["city"],
            "country": order.address["country"],
            "items": [{"sku": item.sku, "quantity": item.quantity} for item in order.items],
        },
    )
