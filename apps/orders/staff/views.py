"""Orders over all shards, one order's whole story, and what is queued behind the scenes.

Every page is bounded, and a shard that is down costs its own rows only: the page says so and shows the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.contrib import admin
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.orders.domain import round_money
from apps.orders.selectors import find_order, order_items, recent_orders, staff_events
from apps.orders.shipment_selectors import shipments_with_number
from apps.orders.snapshots import order_view
from apps.orders.staff.forms import OrderSearchForm
from apps.orders.staff.payments import CAPTURE, DECIDE, RESOLVE
from apps.orders.staff.returns import return_context
from apps.orders.staff.shipping import shipment_context
from apps.orders.types import OrderFilter, OrderSummary
from apps.payments.selectors import alerted_callbacks, attempts_of, refunds_for_staff, refunds_of
from apps.payments.services import open_differences, provider_names
from apps.payments.types import RefundView
from infra.api.fields import MAX_ID
from infra.events.collector import EventsCollector
from infra.sharding.places import place_of_order, shard_aliases

ROWS_A_PAGE = 50
_gauges = EventsCollector()


@dataclass(frozen=True, slots=True)
class GaugeRow:
    """One figure of the queues page."""

    name: str
    where: str
    value: float


def order_list(request: HttpRequest) -> HttpResponse:
    """List orders of all shards, newest first, narrowed by number, user, status and time."""
    form = OrderSearchForm(request.GET)
    context: dict[str, object] = {"form": form, "orders": [], "unreachable": [], "title": "Orders"}
    if form.is_valid():
        if form.cleaned_data["number"] is not None:
            return redirect("admin:orders-order", order_id=form.cleaned_data["number"])
        if form.cleaned_data["tracking"]:
            return _shipment_page(request, form)
        context |= _found(form.cleaned_data)
    return _page(request, "orders/staff/order_list.html", context)


def _shipment_page(request: HttpRequest, form: OrderSearchForm) -> HttpResponse:
    """Go to the order whose shipment has the tracking number: the newest, where carriers use a number again."""
    number = form.cleaned_data["tracking"]
    try:
        found = shipments_with_number(number) if number.isascii() else []
    except OperationalError:
        form.add_error("tracking", "A database that would know does not answer.")
    else:
        if found:
            order_id, n = found[0]
            return redirect(f"{reverse('admin:orders-order', args=[order_id])}#shipment-{n}")
        form.add_error("tracking", "No shipment has this number.")
    context = {"form": form, "orders": [], "unreachable": [], "title": "Orders"}
    return _page(request, "orders/staff/order_list.html", context)


def order_detail(request: HttpRequest, order_id: int) -> HttpResponse:
    """Show one order: lines, money, events, payments, refunds; personal data stays masked."""
    if order_id > MAX_ID:
        raise Http404
    try:
        row = find_order(order_id)
        if row is None:
            raise Http404
        context: dict[str, object] = {
            "order": order_view(row, order_items(order_id)),
            "city": row.city,
            "country": row.country,
            "place": place_of_order(order_id),
            "events": staff_events(order_id),
            **shipment_context(request, row),
            **return_context(request, order_id),
            "attempts": [
                replace(
                    attempt,
                    amount=round_money(attempt.amount, attempt.currency),
                    captured_amount=round_money(attempt.captured_amount, attempt.currency),
                )
                for attempt in attempts_of(order_id)
            ],
            "refunds": [_in_its_decimals(refund) for refund in refunds_of(order_id)],
            "may_decide": request.user.has_perm(DECIDE),
            "may_capture": request.user.has_perm(CAPTURE),
        }
    except OperationalError:
        alias = place_of_order(order_id).alias
        return _page(request, "orders/staff/unreachable.html", {"alias": alias, "title": "Order"}, status=503)
    return _page(request, "orders/staff/order.html", {**context, "title": f"Order {order_id}"})


def queues(request: HttpRequest) -> HttpResponse:
    """Show depth and age of outboxes, dead letters and follow-ups, and refunds and callbacks that need a look."""
    rows = [
        GaugeRow(sample.name, ", ".join(sample.labels.values()), sample.value)
        for metric in _gauges.collect()
        for sample in metric.samples
    ]
    callbacks, refunds, unreachable = [], [], []
    for alias in shard_aliases():
        try:
            callbacks += alerted_callbacks(alias, limit=ROWS_A_PAGE)
            refunds += [_in_its_decimals(refund) for refund in refunds_for_staff(alias, limit=ROWS_A_PAGE)]
        except OperationalError:
            unreachable.append(alias)
    refunds.sort(key=lambda refund: refund.updated_at)
    differences = [each for name in provider_names() for each in open_differences(provider=name, limit=ROWS_A_PAGE)]
    context = {
        "rows": rows,
        "callbacks": callbacks,
        "refunds": refunds,
        "differences": differences,
        "may_resolve": request.user.has_perm(RESOLVE),
        "unreachable": unreachable,
        "title": "Queues",
    }
    return _page(request, "orders/staff/queues.html", context)


def _found(asked: Mapping[str, object]) -> dict[str, object]:
    """Return the rows that the form asks for, of every shard that answers."""
    narrowed = OrderFilter(
        status=asked["status"] or None,  # type: ignore[arg-type]  # cleaned by the form
        placed_from=asked["placed_from"],  # type: ignore[arg-type]
        placed_to=asked["placed_to"],  # type: ignore[arg-type]
    )
    orders: list[OrderSummary] = []
    unreachable: list[str] = []
    next_key = None
    for alias in shard_aliases():
        try:
            page = recent_orders(
                narrowed=narrowed,
                limit=ROWS_A_PAGE,
                user_id=asked["user"],  # type: ignore[arg-type]
                before_id=asked["before"],  # type: ignore[arg-type]
                aliases=[alias],
            )
        except OperationalError:
            unreachable.append(alias)
        else:
            orders += page.rows
            next_key = next_key or page.next_key
    orders.sort(key=lambda order: order.id, reverse=True)
    more = len(orders) > ROWS_A_PAGE or next_key is not None
    orders = orders[:ROWS_A_PAGE]
    found: dict[str, object] = {"orders": orders, "unreachable": unreachable}
    if more and orders:
        query = {name: value for name, value in asked.items() if value and name != "before"}
        found["next_url"] = f"{reverse('admin:orders-list')}?{urlencode(query | {'before': orders[-1].id})}"
    return found


def _in_its_decimals(refund: RefundView) -> RefundView:
    return replace(refund, amount=round_money(refund.amount, refund.currency))


def _page(request: HttpRequest, template: str, context: Mapping[str, object], status: int = 200) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
