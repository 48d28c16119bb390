"""The work queues that orders bring: dead letters, outboxes that stand still, failing follow-ups, callbacks, holds.

Keys of items are the columns of their rows, so that a step finds its row again whatever has happened meanwhile.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import OperationalError, connections
from django.utils import timezone
from django.utils.translation import gettext as _text
from django.utils.translation import gettext_lazy as _

from apps.orders.domain import round_money
from apps.orders.services.holds import oldest_holds
from apps.payments.selectors import alerted_callbacks, refunds_for_staff
from apps.payments.services import open_differences, provider_names, resolve_difference
from apps.payments.services.alerts import settle_alert
from infra.errors import InvalidState
from infra.events.consumers import subscriptions
from infra.events.deadletters import oldest_letters, replay_aggregate
from infra.followups.services import failing, make_due
from infra.outbox.services import outbox_aliases
from infra.sharding.places import place_of_order, place_of_slot, shard_aliases
from infra.staff.queues import WorkItem, WorkQueue, WorkStep, register_queue
from infra.staff.templatetags.staff import word

VIEW_QUEUES: Final = "orders.view_queues"
_STUCK_S: Final = 60
_TRIED_OFTEN: Final = 5
_SEPARATOR: Final = "|"


def over_aliases(
    aliases: Sequence[str], read: Callable[[str], list[WorkItem]], limit: int
) -> tuple[list[WorkItem], list[str]]:
    """Return the oldest items of all databases, and which gave no answer."""
    items: list[WorkItem] = []
    unreachable: list[str] = []
    for alias in aliases:
        try:
            items += read(alias)
        except OperationalError:
            unreachable.append(alias)
    return sorted(items, key=lambda item: item.since)[:limit], unreachable


def _dead_letters(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    def read(alias: str) -> list[WorkItem]:
        return [
            WorkItem(
                key=_key(letter.slot, letter.group_name, letter.aggregate, letter.aggregate_id),
                about=f"{letter.type} · {letter.group_name}",
                since=letter.created_at,
                wrong=letter.last_error,
                order_id=letter.aggregate_id if letter.aggregate == "order" else None,
                user_id=letter.aggregate_id if letter.aggregate == "customer" else None,
            )
            for letter in oldest_letters(alias, limit=limit)
        ]

    return over_aliases(shard_aliases(), read, limit)


def _replay(key: str, *, reason: str, actor: str, now: datetime) -> str:
    slot, group, aggregate, aggregate_id = _parts(key, 4)
    subscription = subscriptions().get(group)
    if subscription is None:
        raise InvalidState(f"There is no group {group} any more.")
    place = place_of_slot(int(slot))
    taken = replay_aggregate(
        place.alias, subscription, slot=int(slot), aggregate=aggregate, aggregate_id=int(aggregate_id)
    )
    if not taken:
        raise InvalidState(_text("It failed again."))
    return _text("%(count)s events were taken.") % {"count": taken}


def _stuck_outboxes(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    def read(alias: str) -> list[WorkItem]:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT occurred_at FROM outbox_event FORCE INDEX (outbox_event_sent) "
                "WHERE sent_at IS NULL ORDER BY id LIMIT 1"
            )
            oldest = cursor.fetchone()
        if oldest is None:
            return []
        since = oldest[0].replace(tzinfo=UTC)
        if timezone.now() - since < timedelta(seconds=_STUCK_S):
            return []
        wrong = _text("The relay of this database has published nothing since; see its log.")
        return [WorkItem(key=alias, about=alias, since=since, wrong=wrong)]

    return over_aliases(outbox_aliases(), read, limit)


def _failing_followups(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    now = timezone.now()

    def read(alias: str) -> list[WorkItem]:
        return [
            WorkItem(
                key=_key(item.order_id, item.kind, item.n),
                about=f"{item.kind} {item.n or ''}".strip(),
                since=item.due_at,
                wrong=_text("tried %(count)s times; %(error)s")
                % {"count": item.attempt_count, "error": item.last_error},
                order_id=item.order_id,
            )
            for item in failing(alias, now=now, attempts=_TRIED_OFTEN, limit=limit)
        ]

    return over_aliases(shard_aliases(), read, limit)


def _try_followup(key: str, *, reason: str, actor: str, now: datetime) -> str:
    order_id, kind, n = _parts(key, 3)
    place = place_of_order(int(order_id))
    if not make_due(place.alias, slot=place.slot, order_id=int(order_id), kind=kind, n=int(n), now=now):
        raise InvalidState(_text("This is done meanwhile."))
    return _text("It is tried again at once.")


def _callbacks(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    def read(alias: str) -> list[WorkItem]:
        return [
            WorkItem(
                key=_key(row.order_id, row.provider, row.account, row.event_id),
                about=f"{row.reference} · {row.provider} {row.event_id}",
                since=row.received_at,
                wrong=row.result,
                order_id=row.order_id,
            )
            for row in alerted_callbacks(alias, limit=limit)
        ]

    return over_aliases(shard_aliases(), read, limit)


def _settle_callback(key: str, *, reason: str, actor: str, now: datetime) -> str:
    order_id, provider, account, event_id = _parts(key, 4)
    settle_alert(order_id=int(order_id), provider=provider, account=account, event_id=event_id)
    return _text("It is settled.")


def _differences(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    rows = [each for name in provider_names() for each in open_differences(provider=name, limit=limit)]
    items = [
        WorkItem(
            key=str(row.id),
            about=f"{row.provider} {row.reference}",
            since=row.since,
            wrong=_text("%(kind)s: ours %(ours)s, theirs %(theirs)s, in the file of %(day)s")
            % {"kind": word(row.kind), "ours": row.ours or "-", "theirs": row.theirs or "-", "day": row.day},
        )
        for row in rows
    ]
    return sorted(items, key=lambda item: item.since)[:limit], []


def _resolve_difference(key: str, *, reason: str, actor: str, now: datetime) -> str:
    (difference_id,) = _parts(key, 1)
    resolve_difference(int(difference_id), reason=reason, actor=actor, now=now)
    return _text("It is settled.")


def _refunds(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    def read(alias: str) -> list[WorkItem]:
        return [
            WorkItem(
                key=_key(refund.order_id, refund.n),
                about=f"{refund.refund_id} · {round_money(refund.amount, refund.currency)} {refund.currency}",
                since=refund.updated_at,
                wrong=f"{word(refund.status)}: {refund.reason}",
                order_id=refund.order_id,
            )
            for refund in refunds_for_staff(alias, limit=limit)
        ]

    return over_aliases(shard_aliases(), read, limit)


def _held(limit: int) -> tuple[Sequence[WorkItem], Sequence[str]]:
    def read(alias: str) -> list[WorkItem]:
        return [
            WorkItem(
                key=str(hold.order_id),
                about=_text("held by %(name)s") % {"name": hold.staff_name},
                since=hold.at,
                wrong=hold.reason,
                order_id=hold.order_id,
            )
            for hold in oldest_holds(alias, limit=limit)
        ]

    return over_aliases(shard_aliases(), read, limit)


def _key(*parts: object) -> str:
    return _SEPARATOR.join(str(part) for part in parts)


def _parts(key: str, count: int) -> list[str]:
    parts = key.split(_SEPARATOR, count - 1)
    if len(parts) != count or not parts[0].isdigit():
        raise InvalidState(_text("There is no such item."))
    return parts


register_queue(
    WorkQueue(
        "refunds",
        _("Refunds that wait for a decision"),
        _("Asked for by a buyer, or refused by the provider. They are decided on the order's page."),
        "payments.decide_refund",
        _refunds,
    )
)
register_queue(
    WorkQueue(
        "callbacks",
        _("Contradicting callbacks"),
        _("A provider told what its own earlier word, or the payment, contradicts. Nothing was changed by it."),
        "orders.work_payment_queues",
        _callbacks,
        steps=(WorkStep("settle", _("Settled"), _settle_callback),),
    )
)
register_queue(
    WorkQueue(
        "differences",
        _("Differences of settlements"),
        _("Where a provider's settlement file and our books differ, and mending it unseen would not be safe."),
        "payments.resolve_difference",
        _differences,
        steps=(WorkStep("resolve", _("Settled"), _resolve_difference),),
    )
)
register_queue(
    WorkQueue(
        "followups",
        _("Work that keeps failing"),
        _("Owed to an order and tried again by itself every few seconds, without success so far."),
        "orders.work_event_queues",
        _failing_followups,
        steps=(WorkStep("retry", _("Try now"), _try_followup),),
    )
)
register_queue(
    WorkQueue(
        "dead-letters",
        _("Dead letters"),
        _("Events that a consumer could not take; later events of the same order wait behind them."),
        "orders.work_event_queues",
        _dead_letters,
        steps=(WorkStep("retry", _("Give again"), _replay),),
    )
)
register_queue(
    WorkQueue(
        "outbox",
        _("Outboxes that stand still"),
        _("Events that have waited for their relay for more than a minute."),
        "orders.work_event_queues",
        _stuck_outboxes,
    )
)
register_queue(
    WorkQueue(
        "held-orders",
        _("Orders held back"),
        _("Neither shipped nor captured until somebody lets them go or cancels them, on the order's page."),
        "orders.hold_order",
        _held,
    )
)
