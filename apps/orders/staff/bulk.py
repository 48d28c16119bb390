"""Actions on many orders at once, over all shards: counted, confirmed with a reason, done one by one."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _text
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from apps.orders.errors import OrderMovedOn, OrderNotFound
from apps.orders.staff.order_actions import ActionCall, OrderAction, ReasonForm, find_action
from apps.orders.staff.story import tell_story
from infra.api.fields import id_from_text
from infra.errors import DomainError, InvalidState
from infra.sharding.placement import HOME
from infra.staff.actions import FormSentBefore, acting, is_token
from infra.staff.bulk import (
    MAX_ITEMS,
    BulkKind,
    Counted,
    bulk_kinds,
    count_bulk,
    register_bulk,
    start_bulk,
    tally,
)
from infra.staff.models import BulkItem, BulkJob
from infra.staff.pages import need, page, staff_of
from infra.staff.sessions import needs_step_up, to_step_up

BULK: Final = "orders.bulk_orders"
_SHOWN_JOBS: Final = 20
_SHOWN_ITEMS: Final = 200
_IN_BULK: Final = ("hold", "release", "cancel")


class BulkForm(forms.Form):
    """What to do, and the numbers of the orders."""

    kind = forms.ChoiceField(label=_("What"))
    numbers = forms.CharField(
        label=_("Order numbers, apart by spaces, commas or lines"),
        max_length=MAX_ITEMS * 21,
        widget=forms.Textarea(attrs={"rows": 6}),
    )

    def __init__(self, *args: Any, kinds: Sequence[BulkKind], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"] = forms.ChoiceField(label=_("What"), choices=[(kind.name, kind.title) for kind in kinds])

    def clean_numbers(self) -> list[int]:
        """Return the numbers, each once; raises ValidationError for what is none, and for too many."""
        words = [word for word in re.split(r"[\s,;]+", self.cleaned_data["numbers"]) if word]
        numbers = [id_from_text(word) for word in words]
        if None in numbers:
            wrong = words[numbers.index(None)]
            raise forms.ValidationError(_text("%(word)s is no order number.") % {"word": wrong[:40]})
        found = list(dict.fromkeys(number for number in numbers if number is not None))
        if len(found) > MAX_ITEMS:
            raise forms.ValidationError(_text("At most %(count)s orders at a time.") % {"count": MAX_ITEMS})
        return found


def bulk_list(request: HttpRequest) -> HttpResponse:
    """Ask what to do to which orders, and count it; list one's own jobs."""
    staff = staff_of(request)
    kinds = [kind for kind in bulk_kinds().values() if staff.has_perm(kind.permission)]
    form = BulkForm(request.POST if request.method == "POST" else None, kinds=kinds)
    if request.method == "POST" and form.is_valid():
        kind = bulk_kinds()[form.cleaned_data["kind"]]
        job = count_bulk(staff, kind=kind, target_ids=form.cleaned_data["numbers"], now=timezone.now())
        return redirect("admin:bulk-job", job_id=job.id)
    jobs = BulkJob.objects.using(HOME).filter(staff_id=staff.pk).order_by("-id")[:_SHOWN_JOBS]
    context = {
        "form": form,
        "jobs": [(job, _title(job), tally(job)) for job in jobs],
        "title": _text("Many orders at once"),
    }
    return page(request, "orders/staff/bulk_list.html", context)


@never_cache
def bulk_job(request: HttpRequest, job_id: int) -> HttpResponse:
    """Show what was counted and what has become of it; start it, once, with a reason."""
    staff = staff_of(request)
    job = BulkJob.objects.using(HOME).filter(id=job_id, staff_id=staff.pk).first() if job_id < 2**63 else None
    kind = bulk_kinds().get(job.kind) if job is not None else None
    if job is None or kind is None:
        raise Http404
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        need(request, kind.permission)
        if kind.asks_proof and needs_step_up(request):
            return to_step_up(request.path)
        if form.is_valid() and is_token(request.POST.get("token", "")):
            _start(request, job, reason=form.cleaned_data["reason"], token=request.POST["token"])
            return redirect("admin:bulk-job", job_id=job.id)
    counts = tally(job)
    context = {
        "job": job,
        "kind_title": kind.title,
        "form": form,
        "counts": [(label, counts.get(state, 0)) for state, label in BulkItem.State.choices],
        "possible": counts.get(BulkItem.State.WAITING, 0),
        "is_draft": job.state == BulkJob.State.DRAFT,
        "is_running": job.state == BulkJob.State.RUNNING,
        "items": BulkItem.objects.using(HOME).filter(job_id=job.id).order_by("id")[:_SHOWN_ITEMS],
        "title": f"{kind.title} · {job.id}",
    }
    return page(request, "orders/staff/bulk_job.html", context)


def _start(request: HttpRequest, job: BulkJob, *, reason: str, token: str) -> None:
    target, now = f"bulk:{job.id}", timezone.now()
    try:
        with acting(staff_of(request), kind=f"bulk.{job.kind}", target=target, reason=reason, token=token, now=now):
            start_bulk(job, reason=reason)
    except FormSentBefore:
        messages.warning(request, _text("This was sent before; nothing was done twice."))
    except DomainError as refusal:
        messages.error(request, str(refusal))


def _title(job: BulkJob) -> object:
    kind = bulk_kinds().get(job.kind)
    return job.kind if kind is None else kind.title


def _count(action: OrderAction, order_ids: Sequence[int]) -> list[Counted]:
    counted = []
    for order_id in order_ids:
        story = tell_story(order_id)
        if story is None:
            counted.append(Counted(order_id, 0, _text("There is no such order.")))
        elif not action.is_offered(story):
            counted.append(Counted(order_id, story.row.version, story.order.status))
        elif action.asks_second(story):
            counted.append(Counted(order_id, story.row.version, _text("needs a second person, on its own page")))
        else:
            counted.append(Counted(order_id, story.row.version))
    return counted


def _run(action: OrderAction, order_id: int, *, version: int, staff: AbstractUser, reason: str, now: datetime) -> str:
    """Do the action to one order as its own page would, if the order is still as it was counted."""
    story = tell_story(order_id)
    if story is None:
        raise OrderNotFound("There is no such order.")
    if story.row.version != version:
        raise OrderMovedOn("The order has changed since it was counted.")
    if not action.is_offered(story):
        raise InvalidState(f"The order is {story.order.status} now.")
    if action.asks_second(story):
        raise InvalidState("It needs a second person, on its own page.")
    with acting(staff, kind=f"order.{action.name}", target=story.target, reason=reason, detail="bulk", now=now):
        return action.run(ActionCall(story, staff, reason, {"reason": reason}, version, now))


def _action(name: str) -> OrderAction:
    action = find_action(name)
    if action is None:
        raise ValueError(f"there is no action {name!r}")
    return action


def _register(name: str) -> None:
    register_bulk(
        BulkKind(
            name=f"order-{name}",
            title=_action(name).label,
            permission=_action(name).permission,
            count=lambda order_ids: _count(_action(name), order_ids),
            run=lambda order_id, **call: _run(_action(name), order_id, **call),
            asks_proof=_action(name).is_grave,
        )
    )


for _name in _IN_BULK:
    _register(_name)
