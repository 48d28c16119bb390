"""What the staff do about money: capture it, and decide on refunds."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.orders.errors import OrderHeld, OrderNotFound, OrderNotPayable
from apps.orders.services import refunds
from apps.orders.services.payment import capture_payment
from apps.orders.staff.flash_pages import log_change, need, staff_id
from apps.payments.errors import PaymentNotFound
from apps.payments.models import Callback
from apps.payments.types import RefundView
from infra.api.fields import MAX_ID
from infra.errors import InvalidState
from infra.staff.sessions import needs_step_up, to_step_up

DECIDE: Final = "payments.decide_refund"
CAPTURE: Final = "payments.capture_payment"


class DecisionForm(forms.Form):
    """What is decided about a refund, and why."""

    action = forms.ChoiceField(choices=[(name, name) for name in ("approve", "reject", "retry", "settle")])
    reason = forms.CharField(max_length=255)
    returns_stock = forms.BooleanField(required=False)


@require_POST
def decide_refund(request: HttpRequest, order_id: int, n: int) -> HttpResponse:
    """Do what the form says to one refund, and show its order."""
    need(request, DECIDE)
    if order_id > MAX_ID:
        raise Http404
    if needs_step_up(request):
        return to_step_up(reverse("admin:orders-order", args=[order_id]))
    form = DecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "A decision needs a reason.")
        return redirect("admin:orders-order", order_id=order_id)
    asked = form.cleaned_data
    actions: Mapping[str, Callable[..., RefundView]] = {
        "approve": partial(refunds.approve_refund, returns_stock=asked["returns_stock"]),
        "reject": refunds.reject_refund,
        "retry": refunds.retry_refund,
        "settle": refunds.settle_refund_outside,
    }
    try:
        refund = actions[asked["action"]](
            order_id=order_id,
            n=n,
            reason=asked["reason"],
            actor=f"staff:{staff_id(request)}",
            now=timezone.now(),
        )
    except PaymentNotFound as error:
        raise Http404 from error
    except InvalidState as refusal:
        messages.error(request, str(refusal))
    else:
        log_change(request, Callback, order_id, refund.refund_id, f"{asked['action']}: {asked['reason']}")
        messages.success(request, f"{refund.refund_id} is {refund.status}.")
    return redirect("admin:orders-order", order_id=order_id)


class ReasonForm(forms.Form):
    """Why something is done."""

    reason = forms.CharField(max_length=255)


@require_POST
def capture(request: HttpRequest, order_id: int) -> HttpResponse:
    """Capture the money that is held for an order, and show it."""
    need(request, CAPTURE)
    if order_id > MAX_ID:
        raise Http404
    form = ReasonForm(request.POST)
    if not form.is_valid():
        messages.error(request, "A capture needs a reason.")
        return redirect("admin:orders-order", order_id=order_id)
    reason = form.cleaned_data["reason"]
    try:
        attempt = capture_payment(
            order_id=order_id, reason=reason, actor=f"staff:{staff_id(request)}", now=timezone.now()
        )
    except (OrderNotFound, PaymentNotFound) as error:
        raise Http404 from error
    except (OrderNotPayable, OrderHeld) as refusal:
        messages.error(request, str(refusal))
    else:
        log_change(request, Callback, order_id, attempt.payment_id, f"capture: {reason}")
        messages.success(request, f"{attempt.payment_id} is {attempt.status}.")
    return redirect("admin:orders-order", order_id=order_id)
