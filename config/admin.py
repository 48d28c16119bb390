"""App configuration of the admin: makes the staff's site the default one."""

from django.contrib.admin.apps import AdminConfig


class FloodgateAdminConfig(AdminConfig):
    """Django's admin behind a second factor."""

    default_site = "config.admin_site.FloodgateAdminSite"
