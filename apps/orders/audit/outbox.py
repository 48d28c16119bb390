"""Facts that leave: the outbox has every version, in time, and what is owed is done in time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, MAX_SLOTS_READ, fetch, months_of, sql_time, utc
from apps.orders.models import OrderKind


def events_have_no_gaps(alias: str, now: datetime) -> Iterator[Finding]:
    """The events of an aggregate that are still kept follow each other by one."""
    told = _aggregates("TRUE")
    rows = fetch(
        alias,
        f"SELECT aggregate, aggregate_id, lowest, highest, events FROM ({told}) e "
        f"WHERE highest - lowest + 1 <> events LIMIT {MAX_FINDINGS}",
    )
    for aggregate, aggregate_id, lowest, highest, events in rows:
        yield Finding(
            "outbox", alias, f"{aggregate} {aggregate_id}", f"{events} events for the versions {lowest} to {highest}"
        )


def orders_have_told_their_version(alias: str, now: datetime) -> Iterator[Finding]:
    """The last event of an order that changed within the outbox's retention has the order's version."""
    changed_after = sql_time(now - timedelta(hours=settings.OUTBOX_RETENTION_H - 1))
    events = _aggregates("aggregate = 'order'")
    told = f"SELECT slot, aggregate_id, highest FROM ({events}) e WHERE latest > %s"
    recent = " UNION ALL ".join(
        f"SELECT slot, id, version FROM {month.order} "
        f"WHERE kind = {OrderKind.REAL:d} AND source = '' AND updated_at > %s"
        for month in months_of(alias)
    )
    if not recent:
        return
    orders = fetch(alias, _sums_of(recent, "id", "version"), [changed_after] * recent.count("%s"))
    facts = fetch(alias, _sums_of(told, "aggregate_id", "highest"), [changed_after])
    slots = sorted({slot for slot, _, _ in set(orders) ^ set(facts)})[:MAX_SLOTS_READ]
    if not slots:
        return
    there = ", ".join(str(slot) for slot in slots)
    told_there = _aggregates(f"aggregate = 'order' AND slot IN ({there})")
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT o.id, o.version, e.highest FROM {month.order} o "
            f"LEFT JOIN ({told_there}) e ON e.aggregate_id = o.id WHERE o.slot IN ({there}) "
            f"AND o.kind = {OrderKind.REAL:d} AND o.source = '' AND o.updated_at > %s "
            f"AND (e.highest IS NULL OR e.highest <> o.version) LIMIT {MAX_FINDINGS}",
            [changed_after],
        )
        for order_id, version, highest in rows:
            yield Finding("outbox", alias, f"order {order_id}", f"at version {version}, its last event is of {highest}")


def customers_have_told_their_version(alias: str, now: datetime) -> Iterator[Finding]:
    """The last kept event of a customer has the customer's version."""
    told = _aggregates("aggregate = 'customer'")
    rows = fetch(
        alias,
        f"SELECT c.user_id, c.version, e.highest FROM ({told}) e "
        "JOIN users_customer c ON c.slot = e.slot AND c.user_id = e.aggregate_id "
        f"WHERE e.highest <> c.version LIMIT {MAX_FINDINGS}",
    )
    for user_id, version, highest in rows:
        yield Finding("outbox", alias, f"customer {user_id}", f"at version {version}, its last event is of {highest}")


def sales_have_told_their_version(alias: str, now: datetime) -> Iterator[Finding]:
    """The last kept event of a flash sale has the sale's version."""
    told = _aggregates("aggregate = 'sale'")
    rows = fetch(
        alias,
        f"SELECT s.id, s.version, e.highest FROM ({told}) e "
        f"JOIN promotions_sale s ON s.id = e.aggregate_id WHERE e.highest <> s.version LIMIT {MAX_FINDINGS}",
    )
    for sale_id, version, highest in rows:
        yield Finding("outbox", alias, f"sale {sale_id}", f"at version {version}, its last event is of {highest}")


def _aggregates(condition: str) -> str:
    """Return the statement that folds events into one row an aggregate."""
    return (
        "SELECT slot, aggregate, aggregate_id, MIN(aggregate_version) AS lowest, MAX(aggregate_version) AS highest, "
        f"COUNT(*) AS events, MAX(occurred_at) AS latest FROM outbox_event WHERE {condition} "
        "GROUP BY slot, aggregate, aggregate_id"
    )


def _sums_of(rows: str, key: str, version: str) -> str:
    checksum = f"CAST(SUM(CRC32(CONCAT({key}, ':', {version}))) AS SIGNED)"
    return f"SELECT slot, COUNT(*), {checksum} FROM ({rows}) r GROUP BY slot"


def events_leave_in_time(alias: str, now: datetime) -> Iterator[Finding]:
    """The oldest event that was not sent is young."""
    [(count, oldest)] = fetch(alias, "SELECT COUNT(*), MIN(occurred_at) FROM outbox_event WHERE sent_at IS NULL")
    if oldest is not None:
        yield Finding(
            "outbox",
            alias,
            "unsent events",
            f"{count}, the oldest of {oldest:%Y-%m-%d %H:%M:%S}",
            since=utc(oldest),
            bound_s=BACKLOG_BOUND_S,
        )


def follow_ups_are_done_in_time(alias: str, now: datetime) -> Iterator[Finding]:
    """Nothing that is owed to an order is overdue."""
    rows = fetch(
        alias,
        "SELECT kind, COUNT(*), MIN(due_at), MAX(last_error) FROM followups_followup WHERE due_at < %s GROUP BY kind",
        [sql_time(now)],
    )
    for kind, count, oldest, error in rows:
        yield Finding(
            "follow-ups",
            alias,
            f"overdue {kind}",
            f"{count}, the longest since {oldest:%Y-%m-%d %H:%M:%S} {error}".strip(),
            since=utc(oldest),
            bound_s=BACKLOG_BOUND_S,
        )
