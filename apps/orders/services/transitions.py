"""The one way in which an order changes after it was placed."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections

from apps.orders.domain import (
    Closure,
    FulfillmentStatus,
    OrderStatus,
    PaymentStatus,
    check_transition,
    status_of,
)
from apps.orders.errors import OrderChanged
from apps.orders.events import order_event_draft
from apps.orders.models import Order, OrderEvent
from apps.orders.services.discounting import restore_coupons_of
from apps.orders.services.points import follow_transitions
from apps.orders.services.recording import EVENT_COLUMNS, column_time, insert_rows
from infra.outbox.services import append
from infra.sharding.ids import slot_of
from infra.sharding.monthly import telling_month_errors
from infra.sharding.months import Month
from infra.sharding.places import Place

# Columns that a change may name; the others are fixed when the order is placed, or follow from these.
_CHANGEABLE: Final = frozenset(
    {
        "payment_status",
        "fulfillment_status",
        "closed_as",
        "refunding",
        "refunded_total",
        "paid_at",
        "cancel_reason",
        "address",
        "note",
        "city",
    }
)


def advance(
    place: Place,
    order: Order,
    *,
    changes: Mapping[str, object],
    kind: str,
    actor: str,
    detail: str,
    now: datetime,
    payload: Mapping[str, object] | None = None,
) -> Order:
    """Change an order by compare-and-set, and write its order event and outbox event with the same version.

    Call it inside `place.atomic()`, once a transaction for an order, before anything is appended for it. `changes` may
    be empty: what changed is then in other rows of the order (a payment), and only the version tells. Returns the
    order as it is now; the one passed in is left alone.
    Raises OrderChanged when somebody else was first (the caller rolls back, reads again and decides anew),
    ForbiddenTransition or ContradictoryState when the change would break the table of statuses.
    """
    [changed] = advance_all(
        place.alias, [order], changes=changes, kind=kind, actor=actor, detail=detail, now=now, payload=payload
    )
    return changed


def advance_all(
    alias: str,
    orders: Sequence[Order],
    *,
    changes: Mapping[str, object],
    kind: str,
    actor: str,
    detail: str,
    now: datetime,
    payload: Mapping[str, object] | None = None,
) -> list[Order]:
    """Make the same change to several orders of one shard, in one transaction: all of them or OrderChanged.

    See `advance`; the open transaction has read the fences of all their slots. Orders that end give back coupons and
    points.
    """
    unknown = set(changes) - _CHANGEABLE
    if unknown:
        raise ValueError(f"an order's {sorted(unknown)} do not change")
    changed = [_changed(order, changes, now=now) for order in orders]
    by_month: dict[Month, list[Order]] = defaultdict(list)
    for before, after in zip(orders, changed, strict=True):
        check_transition(OrderStatus(before.status), OrderStatus(after.status))
        by_month[Month.of_id(after.id)].append(after)
    for month, members in by_month.items():
        _compare_and_set(alias, month, members, [*changes, "status", "version", "updated_at"])
        rows = [
            (slot_of(order.id), order.id, order.version, kind, column_time(now), actor, detail) for order in members
        ]
        insert_rows(alias, OrderEvent, month, EVENT_COLUMNS, rows)
    restore_coupons_of(alias, changed, now=now)
    follow_transitions(alias, orders, changed, now=now)
    append(
        alias,
        *(
            order_event_draft(
                kind,
                order_id=order.id,
                user_id=order.user_id,
                version=order.version,
                status=order.status,
                payment_status=order.payment_status,
                payload=payload,
            )
            for order in changed
        ),
        now=now,
    )
    return changed


def _changed(order: Order, changes: Mapping[str, object], *, now: datetime) -> Order:
    """Return a copy of the order as the change leaves it, one version on."""
    after = copy.copy(order)
    for name, value in changes.items():
        setattr(after, name, value)
    after.status = status_of(
        payment_status=PaymentStatus(after.payment_status),
        fulfillment_status=FulfillmentStatus(after.fulfillment_status),
        closed_as=Closure(after.closed_as),
        refunding=bool(after.refunding),
    )
    after.version = order.version + 1
    after.updated_at = now
    return after


def _compare_and_set(alias: str, month: Month, orders: Sequence[Order], columns: Sequence[str]) -> None:
    """Write the columns of orders that all take the same values, if each is still at the version before.

    The condition is a chain of ORs, which both servers turn into one range for each key (MariaDB scans every
    partition for an UPDATE by a row constructor with one member). It goes by the primary key: by the index on the id,
    which MariaDB likes as much, it would lock that index before the row, and deadlock with who locked the row first.
    """
    connection = connections[alias]
    assignments = ["version = version + 1"]
    parameters: list[Any] = []
    for column in columns:
        if column != "version":
            field: Any = Order._meta.get_field(column)
            assignments.append(f"`{column}` = %s")
            parameters.append(field.get_db_prep_save(getattr(orders[0], column), connection))
    condition = " OR ".join(["(slot = %s AND id = %s AND version = %s)"] * len(orders))
    for order in orders:
        parameters += (slot_of(order.id), order.id, order.version - 1)
    table = f"{Order.objects.table_for(month)} FORCE INDEX (PRIMARY)"
    with telling_month_errors(table=Order.table, month=month, alias=alias), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {', '.join(assignments)} WHERE {condition}", parameters)  # noqa: S608
        if cursor.rowcount != len(orders):
            raise OrderChanged(f"{len(orders) - cursor.rowcount} of {len(orders)} orders are at another version")
