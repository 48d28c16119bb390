"""Shipments and returns on the order's page."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from apps.orders.staff.returns import return_context
from apps.orders.staff.shipping import shipment_context
from apps.orders.staff.story import OrderStory, Section, register_section


def _shipments(story: OrderStory, request: HttpRequest) -> Mapping[str, Any]:
    return shipment_context(request, story.row)


def _returns(story: OrderStory, request: HttpRequest) -> Mapping[str, Any]:
    return return_context(request, story.order_id)


register_section(Section("shipments", _("Shipments"), "orders/staff/sections/shipments.html", _shipments, position=40))
register_section(Section("returns", _("Returns"), "orders/staff/sections/returns.html", _returns, position=50))
