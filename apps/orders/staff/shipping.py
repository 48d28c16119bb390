"""What the staff do about an order's shipments: prepare, hand over, note as arrived, take apart.

Each form carries the version of the order that it was shown with, so that a stale tab or a second click is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.orders.carriers.registry import carrier_names
from apps.orders.errors import OrderNotFound, ShipmentNotFound
from apps.orders.fulfillment import UNDER_WAY, ShipmentStatus
from apps.orders.models import Order, OrderWork
from apps.orders.services import shipping
from apps.orders.shipment_selectors import goods_of, shipments_of
from apps.orders.staff.flash_pages import log_change, need, staff_id
from infra.api.fields import MAX_ID
from infra.errors import InvalidState, LimitReached

SHIP: Final = "orders.ship_order"


class ShipmentForm(forms.Form):
    """What is to be done, to which shipment, at which version of the order."""

    action = forms.ChoiceField(
        choices=[(name, name) for name in ("collect", "prepare", "hand_over", "deliver", "cancel")]
    )
    version = forms.IntegerField(min_value=1)
    n = forms.IntegerField(min_value=1, required=False)
    carrier = forms.CharField(max_length=32, required=False)
    number = forms.CharField(max_length=64, required=False)
    reason = forms.CharField(max_length=255, required=False)

    def clean(self) -> dict[str, Any]:
        """Ask for what the action needs."""
        cleaned = super().clean() or {}
        needed = {"hand_over": ("n", "carrier", "number"), "deliver": ("n",), "cancel": ("n", "reason")}
        for name in needed.get(cleaned.get("action", ""), ()):
            if not cleaned.get(name):
                self.add_error(name, "This is needed.")
        return cleaned


def shipment_context(request: HttpRequest, order: Order) -> dict[str, object]:
    """Return what the order's page shows of its shipments, and what may be done to them."""
    return {
        "shipments": shipments_of(order.id),
        "to_ship": goods_of(order).left if order.status in shipping.SHIPPABLE and not order.source else [],
        "may_ship": request.user.has_perm(SHIP),
        "carriers": carrier_names(),
        "prepared": ShipmentStatus.PREPARED,
        "under_way": UNDER_WAY,
    }


@require_POST
def act(request: HttpRequest, order_id: int) -> HttpResponse:
    """Do what the form says, and show the order."""
    need(request, SHIP)
    if order_id > MAX_ID:
        raise Http404
    form = ShipmentForm(request.POST)
    items = read_units(request.POST, "units-")
    if not form.is_valid() or items is None:
        messages.error(request, "Some of the figures are missing or wrong.")
        return redirect("admin:orders-order", order_id=order_id)
    asked = form.cleaned_data
    common: dict[str, Any] = {
        "order_id": order_id,
        "actor": f"staff:{staff_id(request)}",
        "expected_version": asked["version"],
        "now": timezone.now(),
    }
    actions: Mapping[str, Callable[[], object]] = {
        "collect": lambda: shipping.start_fulfilling(**common),
        "prepare": lambda: shipping.prepare_shipment(**common, items=items, carrier=asked["carrier"]),
        "hand_over": lambda: shipping.hand_over(
            **common, n=asked["n"], carrier=asked["carrier"].strip(), number=asked["number"].strip()
        ),
        "deliver": lambda: shipping.deliver_shipment(**common, n=asked["n"]),
        "cancel": lambda: shipping.cancel_shipment(**common, n=asked["n"], reason=asked["reason"]),
    }
    try:
        actions[asked["action"]]()
    except (OrderNotFound, ShipmentNotFound) as error:
        raise Http404 from error
    except (InvalidState, LimitReached) as refusal:
        messages.error(request, str(refusal))
    else:
        what = asked["action"] + (f" shipment {asked['n']}" if asked["n"] else "")
        log_change(request, OrderWork, order_id, f"order {order_id}", f"{what} {asked['reason']}".strip())
        messages.success(request, f"Done: {what}.")
    return redirect("admin:orders-order", order_id=order_id)


def read_units(posted: Mapping[str, str], prefix: str) -> dict[str, int] | None:
    """Return the quantities by SKU of the form's fields that begin so, or None if one is no quantity."""
    units: dict[str, int] = {}
    for name in posted:
        if name.startswith(prefix):
            text = posted[name].strip() or "0"
            if not (text.isascii() and text.isdigit() and len(text) <= 6):
                return None
            units[name.removeprefix(prefix)] = int(text)
    return units
