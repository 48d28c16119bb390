"""The staff's pages of flash sales: list, new and clone, one sale with what can be done to it, and its live figures."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.catalog.selectors import prices
from apps.inventory.selectors import available
from apps.orders.services import flash_sales
from apps.orders.staff.flash_calendar import overlapping
from apps.orders.staff.flash_figures import live_document, refunded, sale_figures, units_ledger
from apps.orders.staff.flash_pages import (
    ADD,
    APPROVE,
    CHANGE_SALE,
    REFUSALS,
    VIEW,
    log_change,
    names_of,
    need,
    page,
    sale_or_404,
    staff_id,
)
from apps.promotions.domain import LIVE_STATES, SaleMode, SaleState
from apps.promotions.models import FlashSale
from apps.promotions.selectors import get_sale, recent_sales
from apps.promotions.services import MAX_ITEMS
from apps.promotions.types import NewItem, NewSale, Sale
from infra.api.fields import id_from_text

SALES_A_PAGE: Final = 100
MIN_PRICE_PERCENT: Final = 50
"""A price below this part of the catalog's, or above the catalog's, has to be confirmed."""
_LOCAL_TIME: Final = "%Y-%m-%dT%H:%M"


class SaleForm(forms.Form):
    """A sale, but for its SKUs."""

    name = forms.CharField(max_length=120, strip=True)
    starts_at = forms.DateTimeField(
        label=_("Starts (UTC)"), widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_LOCAL_TIME)
    )
    ends_at = forms.DateTimeField(
        label=_("Ends (UTC)"), widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_LOCAL_TIME)
    )
    mode = forms.ChoiceField(choices=[(mode.value, mode.value) for mode in SaleMode])
    token_required = forms.BooleanField(required=False, label=_("Ask for a purchase token"))
    testers = forms.CharField(
        required=False, max_length=2000, strip=True, label=_("Rehearse with (user numbers; empty: a real sale)")
    )

    def clean_testers(self) -> list[int]:
        """Return the users of a rehearsal."""
        numbers = [id_from_text(text) for text in re.split(r"[\s,]+", self.cleaned_data["testers"]) if text]
        if None in numbers:
            raise forms.ValidationError("User numbers have up to 19 digits; put commas between them.")
        return [number for number in numbers if number is not None]


class ItemForm(forms.Form):
    """One SKU of a sale."""

    sku = forms.CharField(max_length=64, label="SKU", strip=True)
    price = forms.DecimalField(max_digits=14, decimal_places=2, min_value=0)
    quota = forms.IntegerField(min_value=1)
    per_user_limit = forms.IntegerField(min_value=1, label=_("Units a shopper"), initial=1)
    unusual_price = forms.BooleanField(required=False, label=_("The price is meant as it stands"))

    def clean(self) -> dict[str, Any]:
        """Compare the price with the catalog's, and the quota with the stock."""
        cleaned = super().clean() or {}
        sku = cleaned.get("sku")
        if not sku or not sku.isascii():
            return cleaned
        usual = prices([sku]).get(sku)
        if usual is None:
            self.add_error("sku", "There is no such SKU on sale.")
            return cleaned
        price = cleaned.get("price")
        is_usual = price is None or usual.unit_price * MIN_PRICE_PERCENT / 100 <= price <= usual.unit_price
        if not is_usual and not cleaned.get("unusual_price"):
            self.add_error("price", f"The catalog says {usual.unit_price} {usual.currency}. Confirm that it is meant.")
        units = available([sku])[sku]
        if cleaned.get("quota", 0) > units:
            self.add_error("quota", f"Only {units} units can be allotted.")
        return cleaned


class BaseItemFormSet(forms.BaseFormSet):
    """The SKUs of a sale."""

    def add_fields(self, form: forms.Form, index: int | None) -> None:
        """Call the box by what it does here."""
        super().add_fields(form, index)
        form.fields["DELETE"].label = "Leave out"


ItemFormSet = forms.formset_factory(
    ItemForm,
    formset=BaseItemFormSet,
    extra=0,
    min_num=1,
    max_num=MAX_ITEMS,
    validate_min=True,
    validate_max=True,
    can_delete=True,
)


class ActionForm(forms.Form):
    """What is to be done to a sale; figures where an action needs them."""

    action = forms.ChoiceField(
        choices=[
            (name, name)
            for name in ("warm_up", "publish", "approve", "pause", "resume", "end", "cancel", "quota", "extend")
        ]
    )
    version = forms.IntegerField(required=False, min_value=1)
    sku = forms.CharField(required=False)
    quota = forms.IntegerField(required=False, min_value=1)
    ends_at = forms.DateTimeField(required=False)


def sale_list(request: HttpRequest) -> HttpResponse:
    """List the latest sales, with the SKUs that overlap in time."""
    need(request, VIEW)
    sales = recent_sales(limit=SALES_A_PAGE)
    overlaps = overlapping(sales)
    rows = [(sale, sorted({sku for sku, _ in overlaps.get(sale.id, [])})) for sale in sales]
    context = {"rows": rows, "may_add": request.user.has_perm(ADD), "title": _("Flash sales")}
    return page(request, "orders/staff/flash_list.html", context)


def sale_new(request: HttpRequest) -> HttpResponse:
    """Make a sale, from nothing or from another one (`?from=`)."""
    need(request, ADD)
    if request.method == "POST":
        form, items = SaleForm(request.POST), ItemFormSet(request.POST, prefix="items")
        if all([form.is_valid(), items.is_valid()]):
            try:
                sale = flash_sales.open_sale(_new_sale(form, items), by=staff_id(request), now=timezone.now())
            except REFUSALS as refusal:
                form.add_error(None, str(refusal))
            else:
                log_change(request, FlashSale, sale.id, sale.name, "made")
                done = "waits for approval" if sale.awaits_approval else "is made, and its units are allotted"
                messages.success(request, f"{sale.name} {done}.")
                return redirect("admin:flash-sales-sale", sale_id=sale.id)
    else:
        sale_figures, item_figures = _initial(request)
        form, items = SaleForm(initial=sale_figures), ItemFormSet(initial=item_figures, prefix="items")
    context = {"form": form, "items": items, "title": _("New flash sale")}
    return page(request, "orders/staff/flash_new.html", context)


def sale_detail(request: HttpRequest, sale_id: int) -> HttpResponse:
    """Show a sale as shoppers see it, how it goes, its report; and do to it what is asked."""
    need(request, VIEW)
    sale = sale_or_404(sale_id)
    if request.method == "POST":
        need(request, APPROVE if request.POST.get("action") == "approve" else CHANGE_SALE)
        _act(request, sale)
        return redirect("admin:flash-sales-sale", sale_id=sale_id)
    figures = sale_figures(sale)
    context = {
        "sale": sale,
        "phase": sale.phase(timezone.now()),
        "figures": figures,
        "totals": {name: figures.total(name) for name in ("left", "sold", "orders", "unpaid", "paid", "returned")},
        "refusals": figures.answers.refusals(),
        "ledger": units_ledger(sale),
        "refunded": refunded(sale) if sale.closed_at is not None else None,
        "is_live": sale.state in LIVE_STATES,
        "is_open": sale.state in (SaleState.DRAFT, *LIVE_STATES),
        "may_change": request.user.has_perm(CHANGE_SALE),
        "may_approve": request.user.has_perm(APPROVE) and staff_id(request) not in sale.shaped_by,
        "shaped_by": names_of(sale.shaped_by),
        "approved_by": names_of([] if sale.approved_by is None else [sale.approved_by]),
        "title": sale.name,
    }
    return page(request, "orders/staff/flash_sale.html", context)


def sale_live(request: HttpRequest, sale_id: int) -> HttpResponse:
    """Return the figures that the sale's page asks for by itself."""
    need(request, VIEW)
    return JsonResponse(live_document(sale_or_404(sale_id), now=timezone.now()))


def _act(request: HttpRequest, sale: Sale) -> None:
    form = ActionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Some of the figures are missing or wrong.")
        return
    asked = form.cleaned_data
    now, by = timezone.now(), staff_id(request)
    actions: Mapping[str, Callable[[], object]] = {
        "warm_up": lambda: flash_sales.warm_up(sale.id, now=now),
        "publish": lambda: flash_sales.publish_sale(sale.id, now=now),
        "approve": lambda: flash_sales.approve_sale(sale.id, version=asked["version"] or 0, by=by, now=now),
        "pause": lambda: flash_sales.pause_sale(sale.id, now=now),
        "resume": lambda: flash_sales.resume_sale(sale.id, now=now),
        "end": lambda: flash_sales.end_sale(sale.id, now=now),
        "cancel": lambda: flash_sales.cancel_sale(sale.id, now=now),
        "quota": lambda: flash_sales.raise_quota(sale.id, asked["sku"], asked["quota"] or 0, by=by, now=now),
        "extend": lambda: flash_sales.extend_sale(sale.id, ends_at=asked["ends_at"] or now, by=by, now=now),
    }
    try:
        actions[asked["action"]]()
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
        return
    log_change(request, FlashSale, sale.id, sale.name, asked["action"])
    messages.success(request, f"{sale.name}: {asked['action']}.")
    if not sale.awaits_approval and get_sale(sale.id).awaits_approval:
        messages.warning(request, "It is paused until somebody else has approved the change.")


def _new_sale(form: SaleForm, items: Any) -> NewSale:
    asked = form.cleaned_data
    return NewSale(
        name=asked["name"],
        starts_at=asked["starts_at"],
        ends_at=asked["ends_at"],
        mode=SaleMode(asked["mode"]),
        token_required=asked["token_required"],
        rehearsal=bool(asked["testers"]),
        testers=tuple(asked["testers"]),
        items=tuple(
            NewItem(item["sku"], item["price"], item["quota"], item["per_user_limit"])
            for item in items.cleaned_data
            if item and not item["DELETE"]
        ),
    )


def _initial(request: HttpRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the forms begin with: an hour from the next one on, or the figures of the sale that is cloned."""
    starts_at: datetime = (timezone.now() + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    begun: dict[str, Any] = {"starts_at": starts_at, "ends_at": starts_at + timedelta(hours=1)}
    source = request.GET.get("from", "")
    if not source.isascii() or not source.isdigit() or len(source) > 19:
        return begun, []
    sale = sale_or_404(int(source))
    figures = {
        "name": sale.name,
        "mode": sale.mode.value,
        "token_required": sale.token_required,
        "testers": ", ".join(map(str, sorted(sale.testers))),
        "starts_at": starts_at,
        "ends_at": starts_at + (sale.ends_at - sale.starts_at),
    }
    items = [
        {"sku": item.sku, "price": item.price, "quota": item.quota, "per_user_limit": item.per_user_limit}
        for item in sale.items.values()
    ]
    return figures, items
