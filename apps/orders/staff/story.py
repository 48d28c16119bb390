"""An order as its page knows it, and the registry of the page's sections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db import OperationalError
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.orders.domain import round_money
from apps.orders.models import Order, OrderHold
from apps.orders.selectors import find_order, order_items, staff_events
from apps.orders.services.holds import hold_of
from apps.orders.services.notes import notes_of, tags_of
from apps.orders.snapshots import order_view
from apps.orders.types import OrderView
from apps.payments.selectors import attempts_of, refunds_of
from infra.sharding.places import Place, place_of_order
from infra.staff.actions import actions_on

_LOG_LINES: Final = 50


@dataclass(frozen=True, slots=True)
class OrderStory:
    """What every section and action may go by; what a section needs beyond it, it reads itself."""

    row: Order
    order: OrderView
    place: Place
    hold: OrderHold | None
    tags: Sequence[str]

    @property
    def order_id(self) -> int:
        """The order's number."""
        return self.order.id

    @property
    def target(self) -> str:
        """The order's name in the log of the staff."""
        return target_of(self.order.id)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the order's page: `read(story, request)` returns what its template shows besides the story.

    Sections stand by `position`. One whose databases give no answer says so, and costs the page nothing else. With a
    permission it shows to those who have it.
    """

    name: str
    title: str | Promise
    template: str
    read: Callable[[OrderStory, HttpRequest], Mapping[str, Any]]
    position: int = 100
    permission: str = ""


_sections: Final[dict[str, Section]] = {}


def register_section(section: Section) -> Section:
    """Add a section to the order's page; raises ValueError for a name that is taken."""
    if section.name in _sections:
        raise ValueError(f"There is already a section {section.name!r}.")
    _sections[section.name] = section
    return section


def tell_story(order_id: int) -> OrderStory | None:
    """Return the order, or None where there is none; raises OperationalError when its shard gives no answer."""
    row = find_order(order_id)
    if row is None:
        return None
    return OrderStory(
        row=row,
        order=order_view(row, order_items(order_id)),
        place=place_of_order(order_id),
        hold=hold_of(order_id),
        tags=tags_of(order_id),
    )


def sections_of(story: OrderStory, request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sections that who asks may see, read, in their order."""
    shown = []
    for section in sorted(_sections.values(), key=lambda each: each.position):
        if section.permission and not request.user.has_perm(section.permission):
            continue
        try:
            read = section.read(story, request)
        except OperationalError:
            shown.append({"section": section, "is_away": True})
        else:
            shown.append({"section": section, "is_away": False, **read})
    return shown


def target_of(order_id: int) -> str:
    """Return an order's name in the log of the staff."""
    return f"order:{order_id}"


def _payments(story: OrderStory, request: HttpRequest) -> Mapping[str, Any]:
    return {
        "attempts": [
            replace(
                attempt,
                amount=round_money(attempt.amount, attempt.currency),
                captured_amount=round_money(attempt.captured_amount, attempt.currency),
            )
            for attempt in attempts_of(story.order_id)
        ]
    }


def _refunds(story: OrderStory, request: HttpRequest) -> Mapping[str, Any]:
    return {
        "refunds": [
            replace(refund, amount=round_money(refund.amount, refund.currency)) for refund in refunds_of(story.order_id)
        ]
    }


register_section(
    Section("lines", _("Lines"), "orders/staff/sections/lines.html", lambda story, request: {}, position=10)
)
register_section(Section("payments", _("Payments"), "orders/staff/sections/payments.html", _payments, position=20))
register_section(Section("refunds", _("Refunds"), "orders/staff/sections/refunds.html", _refunds, position=30))
register_section(
    Section(
        "notes",
        _("Notes and tags"),
        "orders/staff/sections/notes.html",
        lambda story, request: {"notes": notes_of(story.order_id)},
        position=60,
    )
)
register_section(
    Section(
        "events",
        _("What happened"),
        "orders/staff/sections/events.html",
        lambda story, request: {"events": staff_events(story.order_id)},
        position=80,
    )
)
register_section(
    Section(
        "log",
        _("What the staff did"),
        "orders/staff/sections/log.html",
        lambda story, request: {"actions": actions_on(story.target, limit=_LOG_LINES)},
        position=90,
    )
)
