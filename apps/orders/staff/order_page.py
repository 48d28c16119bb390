"""One order for the staff: its story, what can be done to it, notes and tags, and whom it belongs to.

What is done is asked twice. The second page carries a token, which lets it do its work once, and the version of the
order that was looked at: an order that has moved on meanwhile is not touched, and the page tells what changed.
"""

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from apps.orders.errors import OrderMovedOn
from apps.orders.selectors import staff_events
from apps.orders.services.notes import MAX_NOTE_LENGTH, MAX_TAG_LENGTH, add_note, add_tag, remove_tag
from apps.orders.staff.order_actions import ActionCall, OrderAction, ReasonForm, find_action, offered_actions
from apps.orders.staff.story import OrderStory, sections_of, target_of, tell_story
from apps.orders.types import OrderEventView
from infra.api.fields import MAX_ID
from infra.errors import DomainError
from infra.sharding.places import place_of_order
from infra.staff.actions import FormSentBefore, acting, is_token, new_token
from infra.staff.approvals import ask_approval
from infra.staff.pages import need, page, staff_of
from infra.staff.sessions import needs_step_up, to_step_up

VIEW: Final = "orders.view_order"
NOTE: Final = "orders.note_order"
UNMASK: Final = "orders.unmask_person"


class NoteForm(forms.Form):
    """A note or a tag."""

    text = forms.CharField(max_length=MAX_NOTE_LENGTH, required=False)
    tag = forms.CharField(max_length=MAX_TAG_LENGTH, required=False)
    remove = forms.CharField(max_length=MAX_TAG_LENGTH, required=False)


def order_detail(request: HttpRequest, order_id: int) -> HttpResponse:
    """Show an order; personal data stays masked."""
    try:
        story = _story_or_404(order_id)
    except OperationalError:
        return unreachable(request, order_id)
    staff = staff_of(request)
    context = {
        "story": story,
        "order": story.order,
        "sections": sections_of(story, request),
        "actions": offered_actions(story, staff),
        "may_unmask": staff.has_perm(UNMASK),
        "may_note": staff.has_perm(NOTE),
        "may_see_customer": staff.has_perm("users.view_customer"),
        "token": new_token(),
        "title": _("Order %(number)s") % {"number": order_id},
    }
    return page(request, "orders/staff/order.html", context)


@never_cache
def order_act(request: HttpRequest, order_id: int, action_name: str) -> HttpResponse:
    """Ask again whether an action is meant, and do it."""
    action = find_action(action_name)
    if action is None:
        raise Http404
    need(request, action.permission)
    try:
        story = _story_or_404(order_id)
        if not action.is_offered(story):
            messages.warning(request, _("The order is %(status)s now: this can no longer be done.") % _status(story))
            return redirect("admin:orders-order", order_id=order_id)
        if action.asks_proof(story) and needs_step_up(request):
            return to_step_up(request.path)
        form = action.form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            seen = _number(request.POST.get("version", ""))
            if seen != story.row.version:
                return _ask(request, story, action, form, seen=seen)
            return _do(request, story, action, form)
        seen = _number(request.GET.get("version", request.POST.get("version", "")))
        return _ask(request, story, action, form, seen=seen)
    except OperationalError:
        return unreachable(request, order_id)


@require_POST
def order_note(request: HttpRequest, order_id: int) -> HttpResponse:
    """Write a note, or put a tag on or take one off."""
    form = NoteForm(request.POST)
    token = request.POST.get("token", "")
    if not form.is_valid() or not is_token(token):
        messages.error(request, _("This is too long."))
        return redirect("admin:orders-order", order_id=order_id)
    asked, staff, now = form.cleaned_data, staff_of(request), timezone.now()
    kind = "order.note" if asked["text"] else ("order.untag" if asked["remove"] else "order.tag")
    try:
        _story_or_404(order_id)
        with acting(staff, kind=kind, target=target_of(order_id), token=token, now=now) as action:
            if asked["text"]:
                add_note(
                    order_id=order_id, text=asked["text"], staff_id=staff.pk, staff_name=staff.get_username(), now=now
                )
            elif asked["remove"]:
                remove_tag(order_id=order_id, tag=asked["remove"])
                action.detail = asked["remove"]
            else:
                action.detail = add_tag(order_id=order_id, tag=asked["tag"], staff_name=staff.get_username(), now=now)
    except FormSentBefore:
        messages.warning(request, _("This was sent before; nothing was done twice."))
    except DomainError as refusal:
        messages.error(request, str(refusal))
    except OperationalError:
        return unreachable(request, order_id)
    return redirect("admin:orders-order", order_id=order_id)


@never_cache
def order_person(request: HttpRequest, order_id: int) -> HttpResponse:
    """Show whom an order belongs to and where it goes, for a reason that is kept."""
    if needs_step_up(request):
        return to_step_up(request.path)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form, "title": _("Buyer of order %(number)s") % {"number": order_id}}
    try:
        story = _story_or_404(order_id)
        context |= {"order": story.order, "explanation": gettext_lazy("What you look at, and why, is kept.")}
        if request.method == "POST" and form.is_valid():
            with acting(
                staff_of(request),
                kind="order.unmask",
                target=story.target,
                reason=form.cleaned_data["reason"],
                now=timezone.now(),
            ):
                context["address"] = story.order.address
    except OperationalError:
        return unreachable(request, order_id)
    return page(request, "orders/staff/person.html", context)


def unreachable(request: HttpRequest, order_id: int) -> HttpResponse:
    """Say that the order's shard gives no answer."""
    context = {"alias": place_of_order(order_id).alias, "title": _("Order")}
    return page(request, "orders/staff/unreachable.html", context, status=503)


def _story_or_404(order_id: int) -> OrderStory:
    story = tell_story(order_id) if order_id <= MAX_ID else None
    if story is None:
        raise Http404
    return story


def _do(request: HttpRequest, story: OrderStory, action: OrderAction, form: ReasonForm) -> HttpResponse:
    token = request.POST.get("token", "")
    if not is_token(token):
        return _ask(request, story, action, form, seen=story.row.version)
    staff, now = staff_of(request), timezone.now()
    asked = form.cleaned_data
    try:
        with acting(
            staff,
            kind=f"order.{action.name}",
            target=story.target,
            reason=asked["reason"],
            detail=f"version {story.row.version}",
            token=token,
            now=now,
        ):
            if action.asks_second(story):
                ask_approval(
                    staff,
                    kind=action.name,
                    target_id=story.order_id,
                    version=story.row.version,
                    reason=asked["reason"],
                    now=now,
                )
                told = _("It is done once a second person has agreed to it.")
            else:
                told = action.run(ActionCall(story, staff, asked["reason"], asked, story.row.version, now))
    except FormSentBefore as before:
        told_before = _("This was sent before, and was done once: %(outcome)s.")
        messages.warning(request, told_before % {"outcome": before.action.get_outcome_display()})
    except OrderMovedOn:
        return _ask(request, _story_or_404(story.order_id), action, form, seen=story.row.version)
    except DomainError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, told)
    return redirect("admin:orders-order", order_id=story.order_id)


def _ask(
    request: HttpRequest, story: OrderStory, action: OrderAction, form: ReasonForm, *, seen: int | None
) -> HttpResponse:
    """Show the second question, with what has changed since the order was `seen`; 409 to a form that came too late."""
    changed: Sequence[OrderEventView] = []
    if seen is not None and seen < story.row.version:
        changed = [event for event in staff_events(story.order_id) if event.version > seen]
    context = {
        "story": story,
        "order": story.order,
        "action": action,
        "explanation": action.explanation(story),
        "asks_second": action.asks_second(story),
        "form": form,
        "changed": changed,
        "token": new_token(),
        "title": f"{action.label} · {story.order_id}",
    }
    is_late = request.method == "POST" and bool(changed)
    return page(request, "orders/staff/confirm.html", context, status=409 if is_late else 200)


def _status(story: OrderStory) -> dict[str, str]:
    return {"status": story.order.status}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
