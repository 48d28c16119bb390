"""Staff accounts in the admin; customers have pages of their own (`apps.users.staff`)."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from apps.users.models import StaffUser

admin.site.register(StaffUser, UserAdmin)
