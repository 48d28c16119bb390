"""Limits of single routes in the staff's admin; those of users, addresses and workers are settings."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from infra.ratelimit.limits import known_routes
from infra.ratelimit.models import RouteLimit


class RouteLimitForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic when it runs
    """Offers the routes that there are."""

    route = forms.ChoiceField()

    class Meta:
        model = RouteLimit
        fields = ("route", "per_second", "burst")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "route" in self.fields:
            self.fields["route"] = forms.ChoiceField(choices=[(name, name) for name in known_routes()])


@admin.register(RouteLimit)
class RouteLimitAdmin(ModelAdmin):
    """What everybody together may ask of a route. A change holds in every process within seconds."""

    form = RouteLimitForm
    list_display = ("route", "per_second", "burst")

    def get_readonly_fields(self, request: HttpRequest, obj: RouteLimit | None = None) -> tuple[str, ...]:
        """Keep the route of a limit."""
        return () if obj is None else ("route",)
