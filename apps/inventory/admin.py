"""Stock and its movements in the staff's admin: read, and adjust with a reason."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from apps.inventory import services
from apps.inventory.models import Movement, Stock

MAX_ADJUSTED = 500


class AdjustForm(forms.Form):
    """How many units can be bought from now on, and why."""

    to = forms.IntegerField(min_value=0, max_value=services.MAX_UNITS, label="Units that can be bought")
    reason = forms.CharField(max_length=200, strip=True)


class _ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only services write, in tables too large to be counted for every page."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse, for everyone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone: a form would write counters that have moved on meanwhile."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False


@admin.register(Stock)
class StockAdmin(_ReadOnlyAdmin):
    """Stock by SKU, with an action that adjusts it."""

    list_display = ("sku", "on_hand", "reserved", "allotted", "available", "version")
    search_fields = ("^sku",)
    ordering = ("sku",)
    actions = ("adjust",)

    @admin.display(description="available", ordering=F("on_hand") - F("reserved") - F("allotted"))
    def available(self, stock: Stock) -> int:
        """Show what can still be bought."""
        return stock.available

    def has_adjust_permission(self, request: HttpRequest) -> bool:
        """Say who may adjust: whoever was given the right to change stock."""
        return request.user.has_perm("inventory.change_stock")

    @admin.action(description="Adjust what can be bought", permissions=["adjust"])
    def adjust(self, request: HttpRequest, stock: "QuerySet[Stock]") -> HttpResponse | None:
        """Ask for units and a reason, then adjust all rows chosen; the movement keeps who and why."""
        skus = list(stock.order_by("sku").values_list("sku", flat=True)[: MAX_ADJUSTED + 1])
        if len(skus) > MAX_ADJUSTED:
            self.message_user(request, f"At most {MAX_ADJUSTED} SKUs at a time.", messages.ERROR)
            return None
        form = AdjustForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            changes = services.adjust_all(
                skus,
                to=form.cleaned_data["to"],
                reason=form.cleaned_data["reason"],
                actor=request.user.get_username(),
                now=timezone.now(),
            )
            plural = "" if len(changes) == 1 else "s"
            self.message_user(request, f"Adjusted {len(changes)} SKU{plural}.", messages.SUCCESS)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Adjust what can be bought",
            "form": form,
            "skus": skus,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "inventory/adjust_stock.html", context)


@admin.register(Movement)
class MovementAdmin(_ReadOnlyAdmin):
    """What moved the units on hand, newest first."""

    list_display = ("at", "sku", "kind", "quantity", "actor", "reason", "order_id")
    list_filter = ("kind",)
    search_fields = ("=sku", "=order_id")
    ordering = ("-id",)
