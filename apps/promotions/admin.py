"""Coupon templates in the staff's admin: terms are fixed once made, bounds and validity can be moved, with a reason."""

from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from unfold.admin import ModelAdmin

from apps.promotions.domain import CouponKind
from apps.promotions.errors import TemplateRefused
from apps.promotions.models import CouponTemplate
from apps.promotions.services import change_template, check_template, create_template
from apps.promotions.services.templates import CHANGEABLE
from apps.promotions.types import CouponTerms, NewTemplate

_TERMS: Final = (
    "kind", "currency", "amount", "percent", "max_discount", "threshold", "categories", "products", "skus",
    "stackable", "starts_at", "valid_days",
)  # fmt: skip
_BOUNDS: Final = ("name", "ends_at", "total_limit", "per_user_limit", "is_listed", "is_active")


class CouponTemplateForm(forms.ModelForm):
    """A template as the staff write it; what is wrong with it is what the service says."""

    reason = forms.CharField(max_length=200, strip=True)

    class Meta:
        model = CouponTemplate
        fields = ("name", *_TERMS, *(name for name in _BOUNDS if name != "name"), "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["reason"] = ""  # each change has its own

    def clean(self) -> dict[str, Any]:
        """Refuse a new template that makes no sense."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in ("categories", "products", "skus"):
            entries = cleaned.get(name, []) or []
            kind = int if name == "products" else str
            if not isinstance(entries, list) or not all(type(entry) is kind for entry in entries):
                what = "numbers" if kind is int else "texts"
                self.add_error(name, f"A JSON list of {what}.")
        if self.instance.pk is None and not self.errors:
            try:
                check_template(self.new_template(), now=timezone.now())
            except TemplateRefused as refusal:
                for field, problem in refusal.problems.items():
                    self.add_error(field, problem)
        return cleaned

    def new_template(self) -> NewTemplate:
        """Return what the form describes."""
        values = self.cleaned_data
        return NewTemplate(
            name=values["name"],
            terms=CouponTerms(
                kind=CouponKind(values["kind"]),
                currency=values["currency"],
                amount=values["amount"],
                percent=values["percent"],
                max_discount=values["max_discount"],
                threshold=values["threshold"],
                categories=frozenset(values["categories"] or ()),
                products=frozenset(values["products"] or ()),
                skus=frozenset(values["skus"] or ()),
                stackable=values["stackable"],
            ),
            starts_at=values["starts_at"],
            ends_at=values["ends_at"],
            valid_days=values["valid_days"],
            total_limit=values["total_limit"],
            per_user_limit=values["per_user_limit"],
            is_listed=values["is_listed"],
        )


@admin.register(CouponTemplate)
class CouponTemplateAdmin(ModelAdmin):
    """Templates, newest first. Nothing is deleted, since shoppers have coupons of them: a template is deactivated."""

    form = CouponTemplateForm
    list_display = (
        "name", "kind", "starts_at", "ends_at", "claimed_count", "total_limit", "is_listed", "is_active", "updated_by",
    )  # fmt: skip
    list_filter = ("kind", "is_active", "is_listed")
    search_fields = ("name", "=id")
    ordering = ("-id",)
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: CouponTemplate | None = None) -> tuple[str, ...]:
        """Fix the terms of a template that exists, and show how many were claimed."""
        return () if obj is None else (*_TERMS, "id", "claimed_count", "updated_by", "updated_at")

    def get_fields(self, request: HttpRequest, obj: CouponTemplate | None = None) -> Any:
        """Show what is set by hand, and of one that exists what the system knows."""
        asked = ("name", *_TERMS, *(name for name in _BOUNDS if name != "name"))
        if obj is None:
            return (*(name for name in asked if name != "is_active"), "reason")
        return (*asked, "id", "claimed_count", "updated_by", "updated_at", "reason")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Begin with the shop's currency."""
        return {"currency": settings.CURRENCY, **super().get_changeform_initial_data(request)}

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Tell what the service refuses of a change, and show the template as it is."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except TemplateRefused as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: CouponTemplate, form: Any, change: bool) -> None:
        """Make or change it through the service, which notes who and why."""
        by, now = request.user.get_username(), timezone.now()
        reason = form.cleaned_data["reason"]
        if not change:
            obj.id = create_template(form.new_template(), by=by, reason=reason, now=now).id
            return
        changes = {name: form.cleaned_data[name] for name in form.changed_data if name in CHANGEABLE}
        change_template(obj.id, changes, by=by, reason=reason, now=now)
