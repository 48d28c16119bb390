"""What the staff do about returns: the list of those that wait, and approving, rejecting and receiving them.

Each form carries the version of the order that it was shown with, so that a stale tab or a second click is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.orders.errors import OrderNotFound, ReturnNotFound
from apps.orders.fulfillment import ReturnStatus
from apps.orders.models import OrderWork
from apps.orders.return_selectors import open_returns, returns_of
from apps.orders.services import returns
from apps.orders.staff.flash_pages import log_change, need, page, staff_id
from apps.orders.staff.shipping import read_units
from apps.orders.types import ReturnView
from infra.api.fields import MAX_ID
from infra.errors import InvalidState
from infra.sharding.places import shard_aliases

RECEIVE: Final = "orders.receive_return"
ROWS_A_PAGE: Final = 100


class ReturnForm(forms.Form):
    """What is to be done about a return, at which version of the order, and what its buyer is told."""

    action = forms.ChoiceField(choices=[(name, name) for name in ("approve", "reject", "receive")])
    version = forms.IntegerField(min_value=1)
    note = forms.CharField(max_length=500, required=False)


def return_context(request: HttpRequest, order_id: int) -> dict[str, object]:
    """Return what the order's page shows of its returns, and what may be done about them."""
    return {
        "returns": returns_of(order_id),
        "may_receive": request.user.has_perm(RECEIVE),
        "requested": ReturnStatus.REQUESTED,
        "approved": ReturnStatus.APPROVED,
    }


def return_list(request: HttpRequest) -> HttpResponse:
    """List the returns that wait for a decision or for their goods, of every shard that answers."""
    need(request, RECEIVE)
    rows: list[tuple[int, int, ReturnStatus, object]] = []
    unreachable: list[str] = []
    for alias in shard_aliases():
        try:
            rows += open_returns(alias, limit=ROWS_A_PAGE)
        except OperationalError:
            unreachable.append(alias)
    rows.sort()
    context = {"rows": rows[:ROWS_A_PAGE], "unreachable": unreachable, "title": "Returns"}
    return page(request, "orders/staff/return_list.html", context)


@require_POST
def decide(request: HttpRequest, order_id: int, n: int) -> HttpResponse:
    """Do what the form says to one return, and show its order."""
    need(request, RECEIVE)
    if order_id > MAX_ID:
        raise Http404
    form = ReturnForm(request.POST)
    received, restocked = read_units(request.POST, "received-"), read_units(request.POST, "restocked-")
    if not form.is_valid() or received is None or restocked is None:
        messages.error(request, "Some of the figures are missing or wrong.")
        return redirect("admin:orders-order", order_id=order_id)
    asked = form.cleaned_data
    common: dict[str, Any] = {
        "order_id": order_id,
        "n": n,
        "note": asked["note"],
        "actor": f"staff:{staff_id(request)}",
        "expected_version": asked["version"],
        "now": timezone.now(),
    }
    actions: Mapping[str, Callable[[], ReturnView]] = {
        "approve": lambda: returns.approve_return(**common),
        "reject": lambda: returns.reject_return(**common),
        "receive": lambda: returns.receive_return(**common, received=received, restocked=restocked),
    }
    try:
        decided = actions[asked["action"]]()
    except (OrderNotFound, ReturnNotFound) as error:
        raise Http404 from error
    except InvalidState as refusal:
        messages.error(request, str(refusal))
    else:
        log_change(request, OrderWork, order_id, decided.return_id, f"{asked['action']} {asked['note']}".strip())
        messages.success(request, f"{decided.return_id} is {decided.status}.")
    return redirect("admin:orders-order", order_id=order_id)
