"""The log of the staff in the admin: read, filtered by whom and what, never changed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from infra.staff.models import StaffAction


@admin.register(StaffAction)
class StaffActionAdmin(ModelAdmin):
    """Who did what to what and why, newest first."""

    list_display = ("at", "staff_name", "kind", "target", "reason", "outcome", "detail")
    list_filter = ("outcome",)
    search_fields = ("=target", "=staff_name", "=kind")
    ordering = ("-id",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse, for everyone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False
