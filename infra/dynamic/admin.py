"""The settings in the staff's admin; deleting one brings its default back."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from infra.dynamic.definitions import DEFINED
from infra.dynamic.models import DynamicSetting


class DynamicSettingForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic when it runs
    """Offers what there is to set, with what each means."""

    name = forms.ChoiceField()

    class Meta:
        model = DynamicSetting
        fields = ("name", "value", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "name" in self.fields:
            choices = [(name, f"{name}: {definition.meaning}") for name, definition in sorted(DEFINED.items())]
            self.fields["name"] = forms.ChoiceField(choices=choices)


@admin.register(DynamicSetting)
class DynamicSettingAdmin(ModelAdmin):
    """Values that differ from their defaults. A change holds in every process within seconds."""

    form = DynamicSettingForm
    list_display = ("name", "value", "default", "allowed", "meaning", "updated_by", "updated_at", "reason")

    def get_readonly_fields(self, request: HttpRequest, obj: DynamicSetting | None = None) -> tuple[str, ...]:
        """Keep the name of what has been set."""
        return ("default", "allowed", "meaning") if obj is None else ("name", "default", "allowed", "meaning")

    def save_model(self, request: HttpRequest, obj: DynamicSetting, form: Any, change: bool) -> None:
        """Note who has set it."""
        obj.updated_by = request.user.get_username()
        super().save_model(request, obj, form, change)

    @admin.display(description="default")
    def default(self, setting: DynamicSetting) -> str:
        """Show what holds without the row."""
        definition = DEFINED.get(setting.name)
        return "-" if definition is None else str(definition.default)

    @admin.display(description="allowed")
    def allowed(self, setting: DynamicSetting) -> str:
        """Show the bounds."""
        definition = DEFINED.get(setting.name)
        return "no longer used" if definition is None else f"{definition.minimum} to {definition.maximum}"

    @admin.display(description="meaning")
    def meaning(self, setting: DynamicSetting) -> str:
        """Say what it is."""
        definition = DEFINED.get(setting.name)
        return "" if definition is None else definition.meaning
