"""Stock in the staff's admin: read, adjust and choose its strategy with a reason; movements and choices are kept."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.admin import ModelAdmin

from apps.inventory import services
from apps.inventory.domain import MEANINGS, Strategy
from apps.inventory.errors import TooManyStrategies
from apps.inventory.models import Movement, SkuStrategy, Stock, StrategyChange

MAX_CHANGED = 500


class AdjustForm(forms.Form):
    """How many units can be bought from now on, and why."""

    to = forms.IntegerField(min_value=0, max_value=services.MAX_UNITS, label="Units that can be bought")
    reason = forms.CharField(max_length=200, strip=True)


class StrategyForm(forms.Form):
    """How the stock is claimed from now on, and why."""

    strategy = forms.ChoiceField(choices=[(strategy.value, strategy.value) for strategy in Strategy])
    reason = forms.CharField(max_length=200, strip=True)


class StrategyFilter(admin.SimpleListFilter):
    """Which SKUs are claimed how."""

    title = "strategy"
    parameter_name = "strategy"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the strategies."""
        return [(strategy.value, strategy.value) for strategy in Strategy]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Stock]") -> "QuerySet[Stock]":
        """Keep the SKUs of the strategy; `merged` has no rows."""
        strategy = self.value()
        if strategy is None:
            return queryset
        chosen = SkuStrategy.objects.using(queryset.db)
        if strategy == Strategy.MERGED:
            return queryset.exclude(sku__in=chosen.values("sku"))
        return queryset.filter(sku__in=chosen.filter(strategy=strategy).values("sku"))


class _ReadOnlyAdmin(ModelAdmin):
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
    """Stock by SKU, with actions that adjust it and choose its strategy."""

    list_display = ("sku", "on_hand", "reserved", "allotted", "available", "strategy", "version")
    list_filter = (StrategyFilter,)
    search_fields = ("^sku",)
    ordering = ("sku",)
    actions = ("adjust", "choose_strategy")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Stock]":
        """Return the rows, each with its SKU's strategy, which is kept in the same database."""
        chosen = SkuStrategy.objects.filter(sku=OuterRef("sku")).values("strategy")
        return super().get_queryset(request).annotate(strategy=Coalesce(Subquery(chosen), Value(str(Strategy.MERGED))))

    @admin.display(description="available", ordering=F("on_hand") - F("reserved") - F("allotted"))
    def available(self, stock: Stock) -> int:
        """Show what can still be bought."""
        return stock.available

    @admin.display(description="strategy")
    def strategy(self, stock: Any) -> str:
        """Show how it is claimed."""
        return str(stock.strategy)

    def has_adjust_permission(self, request: HttpRequest) -> bool:
        """Say who may adjust: whoever was given the right to change stock."""
        return request.user.has_perm("inventory.change_stock")

    def has_strategy_permission(self, request: HttpRequest) -> bool:
        """Say who may choose strategies: whoever was given the right to change them."""
        return request.user.has_perm("inventory.change_skustrategy")

    @admin.action(description="Adjust what can be bought", permissions=["adjust"])
    def adjust(self, request: HttpRequest, stock: "QuerySet[Stock]") -> HttpResponse | None:
        """Ask for units and a reason, then adjust all rows chosen; the movement keeps who and why."""
        skus = self._chosen_skus(request, stock)
        form = AdjustForm(request.POST if "confirmed" in request.POST else None)
        if skus is None:
            return None
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
        return self._ask(request, "inventory/adjust_stock.html", "Adjust what can be bought", form=form, skus=skus)

    @admin.action(description="Choose how stock is claimed", permissions=["strategy"])
    def choose_strategy(self, request: HttpRequest, stock: "QuerySet[Stock]") -> HttpResponse | None:
        """Ask for a strategy and a reason, then switch all rows chosen; the change keeps who and why."""
        skus = self._chosen_skus(request, stock)
        form = StrategyForm(request.POST if "confirmed" in request.POST else None)
        if skus is None:
            return None
        if form.is_valid():
            strategy = Strategy(form.cleaned_data["strategy"])
            try:
                changed_count = services.choose_strategy(
                    skus,
                    strategy,
                    reason=form.cleaned_data["reason"],
                    actor=request.user.get_username(),
                    now=timezone.now(),
                )
            except TooManyStrategies as error:
                self.message_user(request, error.detail, messages.ERROR)
                return None
            plural = "" if changed_count == 1 else "s"
            self.message_user(request, f"Switched {changed_count} SKU{plural} to {strategy}.", messages.SUCCESS)
            return None
        title = "Choose how stock is claimed"
        return self._ask(request, "inventory/choose_strategy.html", title, form=form, skus=skus, meanings=MEANINGS)

    def _chosen_skus(self, request: HttpRequest, stock: "QuerySet[Stock]") -> list[str] | None:
        """Return the SKUs that the action is for, or None, having said so, where they are too many."""
        skus = list(stock.order_by("sku").values_list("sku", flat=True)[: MAX_CHANGED + 1])
        if len(skus) <= MAX_CHANGED:
            return skus
        self.message_user(request, f"At most {MAX_CHANGED} SKUs at a time.", messages.ERROR)
        return None

    def _ask(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        return TemplateResponse(
            request,
            template,
            {
                **self.admin_site.each_context(request),
                "title": title,
                "checkbox_name": ACTION_CHECKBOX_NAME,
                "opts": self.model._meta,
                **context,
            },
        )


@admin.register(StrategyChange)
class StrategyChangeAdmin(_ReadOnlyAdmin):
    """Who has chosen which strategy and why, newest first."""

    list_display = ("at", "sku", "before", "after", "actor", "reason")
    search_fields = ("=sku",)
    ordering = ("-id",)


@admin.register(Movement)
class MovementAdmin(_ReadOnlyAdmin):
    """What moved the units on hand, newest first."""

    list_display = ("at", "sku", "kind", "quantity", "actor", "reason", "order_id")
    list_filter = ("kind",)
    search_fields = ("=sku", "=order_id")
    ordering = ("-id",)
