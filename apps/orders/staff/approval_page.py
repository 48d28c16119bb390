"""What waits for a second person: who asked for what and why, and the word of somebody else."""

from typing import Final

from django.contrib import messages
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.orders.errors import OrderNotFound
from apps.orders.staff.order_actions import ActionCall, OrderAction, find_action
from apps.orders.staff.story import target_of, tell_story
from infra.errors import DomainError, InvalidState
from infra.sharding.placement import HOME
from infra.staff.actions import FormSentBefore, acting, is_token
from infra.staff.approvals import decide, latest_approvals, note_outcome
from infra.staff.models import Approval
from infra.staff.pages import need, page, staff_of
from infra.staff.sessions import needs_step_up, to_step_up

APPROVE: Final = "orders.approve_order_action"
_SHOWN: Final = 50


def approvals(request: HttpRequest) -> HttpResponse:
    """List what waits and what was decided; take a decision."""
    if request.method == "POST":
        if needs_step_up(request):
            return to_step_up(request.path)
        _decide(request)
        return redirect("admin:approvals")
    staff = staff_of(request)
    rows = [
        (row, find_action(row.kind), row.asked_by != staff.pk and _may_take(request, row))
        for row in latest_approvals(limit=_SHOWN)
    ]
    return page(request, "orders/staff/approvals.html", {"rows": rows, "title": _("Second person")})


def _may_take(request: HttpRequest, approval: Approval) -> bool:
    action = find_action(approval.kind)
    return action is not None and request.user.has_perm(action.permission)


def _decide(request: HttpRequest) -> None:
    number, token = request.POST.get("approval", ""), request.POST.get("token", "")
    approval = None
    if number.isascii() and number.isdigit() and len(number) < 19 and is_token(token):
        approval = Approval.objects.using(HOME).filter(id=int(number)).first()
    action = find_action(approval.kind) if approval is not None else None
    if approval is None or action is None:
        raise Http404
    need(request, action.permission)
    staff, now, is_approved = staff_of(request), timezone.now(), "approve" in request.POST
    kind = f"order.{action.name}.{'approve' if is_approved else 'reject'}"
    try:
        with acting(
            staff, kind=kind, target=target_of(approval.target_id), reason=approval.reason, token=token, now=now
        ):
            decide(approval, staff, is_approved=is_approved, now=now)
            told = _run(request, approval, action) if is_approved else _("It is not done.")
    except FormSentBefore:
        messages.warning(request, _("This was sent before; nothing was done twice."))
    except DomainError as refusal:
        note_outcome(approval, str(refusal))
        messages.error(request, str(refusal))
    except OperationalError:
        note_outcome(approval, _("A database did not answer; look at the order, and ask again if it is not done."))
        messages.error(request, _("A database that would know does not answer."))
    else:
        note_outcome(approval, told)
        messages.success(request, told)


def _run(request: HttpRequest, approval: Approval, action: OrderAction) -> str:
    """Do what was asked for, on the order as it was then; raises DomainError where it is another one now."""
    story = tell_story(approval.target_id)
    if story is None:
        raise OrderNotFound("There is no such order.")
    if not action.is_offered(story):
        raise InvalidState(f"The order is {story.order.status} now.")
    staff = staff_of(request)
    asked = {"reason": approval.reason}
    return action.run(ActionCall(story, staff, approval.reason, asked, approval.version, timezone.now()))
