"""Staff accounts and their groups in the admin; customers have pages of their own (`apps.users.staff`)."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.users.models import StaffUser

admin.site.unregister(Group)


@admin.register(StaffUser)
class StaffUserAdmin(PlainUserAdmin, ModelAdmin):
    """Accounts, in the admin's look."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(PlainGroupAdmin, ModelAdmin):
    """Roles as `sync_roles` has made them."""
