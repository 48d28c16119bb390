"""The work queues: what needs a person, since when and who has it; and depths and ages behind the scenes."""

from dataclasses import dataclass
from typing import Final

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.orders.staff import work
from infra.errors import DomainError
from infra.events.collector import EventsCollector
from infra.staff.actions import FormSentBefore, acting, is_token
from infra.staff.pages import need, page, staff_of
from infra.staff.queues import (
    WorkQueue,
    forget_item,
    give_item_back,
    owners_of,
    take_item,
    work_queues,
)

ITEMS_A_PAGE: Final = 50
_MAX_KEY: Final = 160
gauges: Final = EventsCollector()


@dataclass(frozen=True, slots=True)
class GaugeRow:
    """One figure of the queues page."""

    name: str
    where: str
    value: float


class StepForm(forms.Form):
    """One step about one item."""

    item = forms.CharField(max_length=_MAX_KEY)
    do = forms.CharField(max_length=32)
    reason = forms.CharField(max_length=200, required=False, strip=True)
    token = forms.CharField(max_length=32)


def queues(request: HttpRequest) -> HttpResponse:
    """Show how many items each queue has (up to a page), and the depths of outboxes, bus and follow-ups."""
    overview = []
    for queue in work_queues().values():
        items, unreachable = queue.read(ITEMS_A_PAGE)
        overview.append(
            {
                "queue": queue,
                "count": len(items),
                "is_more": len(items) == ITEMS_A_PAGE,
                "oldest": items[0].since if items else None,
                "unreachable": unreachable,
            }
        )
    rows = [
        GaugeRow(sample.name, ", ".join(sample.labels.values()), sample.value)
        for metric in gauges.collect()
        for sample in metric.samples
    ]
    context = {"overview": overview, "rows": rows, "title": _("Queues")}
    return page(request, "orders/staff/queues.html", context)


def queue_items(request: HttpRequest, queue_name: str) -> HttpResponse:
    """Show the oldest items of a queue; take one, give it back, or do what it needs with a reason."""
    queue = work_queues().get(queue_name)
    if queue is None:
        raise Http404
    if request.method == "POST":
        need(request, queue.permission)
        _do(request, queue)
        return redirect("admin:queues-queue", queue_name=queue_name)
    items, unreachable = queue.read(ITEMS_A_PAGE)
    owners = owners_of(queue.name, [item.key for item in items])
    context = {
        "queue": queue,
        "rows": [(item, owners.get(item.key)) for item in items],
        "unreachable": unreachable,
        "may_work": staff_of(request).has_perm(queue.permission),
        "title": queue.title,
    }
    return page(request, "orders/staff/queue.html", context)


def _do(request: HttpRequest, queue: WorkQueue) -> None:
    form = StepForm(request.POST)
    if not form.is_valid() or not form.cleaned_data["item"].isascii() or not is_token(form.cleaned_data["token"]):
        messages.error(request, _("Something is missing in what was sent."))
        return
    asked, staff, now = form.cleaned_data, staff_of(request), timezone.now()
    item = asked["item"]
    if asked["do"] == "take":
        owner = take_item(staff, queue=queue.name, item=item, now=now)
        if owner.staff_id != staff.pk:
            messages.warning(request, _("%(name)s was quicker.") % {"name": owner.staff_name})
        return
    if asked["do"] == "give-back":
        give_item_back(staff, queue=queue.name, item=item)
        return
    step = queue.step(asked["do"])
    if step is None or not asked["reason"]:
        messages.error(request, _("Give the reason."))
        return
    try:
        with acting(
            staff,
            kind=f"queue.{queue.name}.{step.name}",
            target=f"item:{item}"[:80],
            reason=asked["reason"],
            token=asked["token"],
            now=now,
        ):
            told = step.run(item, reason=asked["reason"], actor=f"staff:{staff.pk}", now=now)
    except FormSentBefore:
        messages.warning(request, _("This was sent before; nothing was done twice."))
    except DomainError as refusal:
        messages.error(request, str(refusal))
    else:
        forget_item(queue=queue.name, item=item)
        messages.success(request, told)


__all__ = ["ITEMS_A_PAGE", "queue_items", "queues", "work"]
