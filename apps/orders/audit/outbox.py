"""Facts that leave: the outbox has every version, in time, and what is owed is done in time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch, months_of, sql_time, utc
from apps.orders.models import OrderKind

_VERSIONS = (
    "(SELECT aggregate_id, MIN(aggregate_version) AS lowest, MAX(aggregate_version) AS highest, COUNT(*) AS events "
    "FROM outbox_event WHERE aggregate = '{aggregate}' GROUP BY aggregate_id)"
)


def events_have_no_gaps(alias: str, now: datetime) -> Iterator[Finding]:
    """The events of an aggregate that are still kept follow each other by one."""
    rows = fetch(
        alias,
        "SELECT aggregate, aggregate_id, MIN(aggregate_version), MAX(aggregate_version), COUNT(*) FROM outbox_event "
        "GROUP BY aggregate, aggregate_id "
        f"HAVING MAX(aggregate_version) - MIN(aggregate_version) + 1 <> COUNT(*) LIMIT {MAX_FINDINGS}",
    )
    for aggregate, aggregate_id, lowest, highest, events in rows:
        yield Finding(
            "outbox", alias, f"{aggregate} {aggregate_id}", f"{events} events for the versions {lowest} to {highest}"
        )


def orders_have_told_their_version(alias: str, now: datetime) -> Iterator[Finding]:
    """The last event of an order that changed within the outbox's retention has the order's version."""
    changed_after = sql_time(now - timedelta(hours=settings.OUTBOX_RETENTION_H - 1))
    for month in months_of(alias):
        rows = fetch(
            alias,
            f"SELECT o.id, o.version, e.highest FROM {month.order} o "
            f"LEFT JOIN {_VERSIONS.format(aggregate='order')} e ON e.aggregate_id = o.id "
            f"WHERE o.kind = {OrderKind.REAL:d} AND o.source = '' AND o.updated_at > %s "
            f"AND (e.highest IS NULL OR e.highest <> o.version) LIMIT {MAX_FINDINGS}",
            [changed_after],
        )
        for order_id, version, highest in rows:
            yield Finding("outbox", alias, f"order {order_id}", f"at version {version}, its last event is of {highest}")


def customers_have_told_their_version(alias: str, now: datetime) -> Iterator[Finding]:
    """The last kept event of a customer has the customer's version."""
    rows = fetch(
        alias,
        f"SELECT c.user_id, c.version, e.highest FROM {_VERSIONS.format(aggregate='customer')} e "
        f"JOIN users_customer c ON c.user_id = e.aggregate_id WHERE e.highest <> c.version LIMIT {MAX_FINDINGS}",
    )
    for user_id, version, highest in rows:
        yield Finding("outbox", alias, f"customer {user_id}", f"at version {version}, its last event is of {highest}")


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
