"""The staff's list of orders over all shards: found by number, reference, login or tag, or narrowed and paged through.

Every page is bounded, and a shard that is down costs its own rows only: the page says so and shows the rest.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.orders.listing import StaffFilter, list_for_staff, summaries_of
from apps.orders.services.notes import orders_tagged
from apps.orders.shipment_selectors import shipments_with_number
from apps.orders.staff.forms import OrderSearchForm
from apps.orders.types import OrderSummary
from apps.payments.services import parse_reference
from apps.users.domain import MalformedLogin, normalise_login
from apps.users.selectors import find_user_id
from infra.api.fields import MAX_ID, id_from_text
from infra.errors import DomainError
from infra.sharding.places import shard_aliases
from infra.staff.pages import page, staff_of
from infra.staff.views_saved import saved_views_of

ROWS_A_PAGE: Final = 50
PAGE: Final = "orders"


def order_list(request: HttpRequest) -> HttpResponse:
    """List orders of all shards, newest first; a number or a payment's reference leads to its order at once."""
    form = OrderSearchForm(request.GET)
    context: dict[str, Any] = {"form": form, "orders": [], "unreachable": [], "title": _("Orders")}
    if form.is_valid():
        asked = form.cleaned_data
        order_id = _number_in(asked["wanted"])
        if order_id is not None:
            return redirect("admin:orders-order", order_id=order_id)
        try:
            if asked["tracking"]:
                order_id, n = _shipped_as(asked["tracking"])
                return redirect(f"{reverse('admin:orders-order', args=[order_id])}#shipment-{n}")
            context |= _found(asked)
        except UnknownShipment:
            form.add_error("tracking", _("No shipment has this number."))
        except NobodyKnown:
            form.add_error("wanted", _("There is no such order, reference, customer or tag."))
        except OperationalError:
            form.add_error("wanted", _("A database that would know does not answer."))
    context |= {
        "saved": saved_views_of(staff_of(request), PAGE),
        "page_name": PAGE,
        "query": urlencode([(name, value) for name, value in request.GET.items() if name != "before"]),
        "may_export": staff_of(request).has_perm("orders.export_orders"),
    }
    return page(request, "orders/staff/order_list.html", context)


class UnknownShipment(Exception):
    """No shipment has the tracking number."""


class NobodyKnown(Exception):
    """What was searched for leads to nobody and nothing."""


def narrowed_by(asked: Mapping[str, Any], *, user_id: int | None) -> StaffFilter:
    """Return the filter that a valid form asks for."""
    return StaffFilter(
        status=asked["status"],
        payment_status=asked["payment_status"],
        country=asked["country"],
        currency=asked["currency"],
        total_from=asked["total_from"],
        user_id=user_id,
        placed_from=asked["placed_from"],
        placed_to=asked["placed_to"],
    )


def _found(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows that the form asks for, of every shard that answers; raises NobodyKnown."""
    wanted = asked["wanted"]
    if wanted.startswith("#"):
        return _tagged(wanted[1:], asked["before"])
    user_id = asked["user"]
    if wanted:
        user_id = user_of(wanted)
    listed = list_for_staff(narrowed_by(asked, user_id=user_id), limit=ROWS_A_PAGE, before_id=asked["before"])
    found: dict[str, Any] = {
        "orders": listed.rows,
        "unreachable": listed.unreachable,
        "is_cut": listed.is_cut,
        "user_id": user_id,
    }
    if listed.next_before is not None and (listed.rows or listed.is_cut):
        found["next_url"] = _url_below(asked, listed.next_before)
    return found


def _shipped_as(number: str) -> tuple[int, int]:
    """Return the order and shipment with a tracking number: the newest, where carriers use a number again."""
    found = shipments_with_number(number) if number.isascii() else []
    if not found:
        raise UnknownShipment
    return found[0]


def _tagged(tag: str, before_id: int | None) -> dict[str, Any]:
    ids: list[int] = []
    unreachable = []
    for alias in shard_aliases():
        try:
            ids += orders_tagged(alias, tag, limit=ROWS_A_PAGE + 1, before_id=before_id or MAX_ID)
        except DomainError as error:
            raise NobodyKnown from error
        except OperationalError:
            unreachable.append(alias)
    ids.sort(reverse=True)
    orders: list[OrderSummary] = summaries_of(ids[:ROWS_A_PAGE])
    found: dict[str, Any] = {"orders": orders, "unreachable": unreachable}
    if len(ids) > ROWS_A_PAGE:
        found["next_url"] = _url_below({"wanted": f"#{tag}"}, ids[ROWS_A_PAGE - 1])
    return found


def _number_in(wanted: str) -> int | None:
    """Return the order that a number, or the reference of a payment or refund, names; None for anything else."""
    reference = parse_reference(wanted)
    if reference is not None:
        return reference.order_id
    number = id_from_text(wanted)
    return number if number is not None and not wanted.startswith("+") else None


def user_of(wanted: str) -> int:
    """Return the customer of a whole login, found by its blind index; raises NobodyKnown."""
    try:
        user_id = find_user_id(normalise_login(wanted))
    except MalformedLogin as error:
        raise NobodyKnown from error
    if user_id is None:
        raise NobodyKnown
    return user_id


def _url_below(asked: Mapping[str, Any], before_id: int) -> str:
    query = {name: value for name, value in asked.items() if value and name != "before"}
    return f"{reverse('admin:orders-list')}?{urlencode(query | {'before': before_id})}"
