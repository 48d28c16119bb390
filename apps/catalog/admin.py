"""The catalog in the staff's admin. Nothing is deleted, since orders name SKUs: it is taken off sale."""

from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from apps.catalog import services
from apps.catalog.models import Category, Price, Product, Sku


class _KeptAdmin(ModelAdmin):
    """Rows that are never deleted, in tables too large to be counted for every page."""

    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False


class SkuInline(TabularInline):
    """The SKUs of a product; their prices are on the SKU's own page."""

    model = Sku
    extra = 0
    can_delete = False
    show_change_link = True


class PriceInline(TabularInline):
    """The prices of a SKU, one a currency."""

    model = Price
    extra = 0


@admin.register(Category)
class CategoryAdmin(_KeptAdmin):
    """Categories in the order in which shoppers see them."""

    list_display = ("name", "slug", "position")
    search_fields = ("name", "slug")


@admin.register(Product)
class ProductAdmin(_KeptAdmin):
    """Products, newest first, with their SKUs."""

    list_display = ("id", "title", "category", "is_active", "updated_at")
    list_filter = ("is_active", "category")
    list_select_related = ("category",)
    search_fields = ("title", "skus__code")
    ordering = ("-id",)
    readonly_fields = ("source_code",)
    inlines = (SkuInline,)

    def save_related(self, request: HttpRequest, form: "ModelForm[Any]", formsets: Any, change: bool) -> None:
        """Keep what the text search reads in step with title and SKUs."""
        super().save_related(request, form, formsets, change)
        services.refresh_search_text(form.instance)


@admin.register(Sku)
class SkuAdmin(_KeptAdmin):
    """SKUs with their prices. The code is fixed once made: stock and orders know the SKU by it."""

    list_display = ("code", "product", "price", "is_active")
    list_filter = ("is_active",)
    list_select_related = ("product",)
    search_fields = ("code", "product__title")
    autocomplete_fields = ("product",)
    inlines = (PriceInline,)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Read all prices of a page at once."""
        return super().get_queryset(request).prefetch_related("prices")

    def get_readonly_fields(self, request: HttpRequest, obj: Sku | None = None) -> tuple[str, ...]:
        """Fix the code and the product of a SKU that exists."""
        return ("code", "product") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: Sku, form: "ModelForm[Any]", change: bool) -> None:
        """Keep what the text search reads of the product in step."""
        super().save_model(request, obj, form, change)
        services.refresh_search_text(obj.product)

    @admin.display(description="price")
    def price(self, sku: Sku) -> str:
        """Show all prices of the SKU."""
        return ", ".join(str(price) for price in sku.prices.all())
