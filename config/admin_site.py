"""The staff's admin site: Django's with a second factor, and with pages over the shards beside the model pages."""

from typing import Any

from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, path, reverse
from django_otp.admin import OTPAdminSite

from apps.notifications.staff.urls import PAGES as NOTIFICATION_PAGES
from apps.orders.staff.urls import PAGES as ORDER_PAGES
from apps.users.staff.login import StaffLoginForm
from apps.users.staff.urls import PAGES as CUSTOMER_PAGES


class FloodgateAdminSite(OTPAdminSite):
    """Asks for a one-time code besides the password; every page of it is for staff only."""

    login_form = StaffLoginForm
    site_header = "Floodgate"
    site_title = "Floodgate"
    index_title = "Operations"
    site_url = None  # the shop is elsewhere: an API on another port

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the pages over the shards before the model pages."""
        pages: list[URLPattern | URLResolver] = [
            path(address, self.admin_view(view), name=name)
            for address, view, name in (*ORDER_PAGES, *CUSTOMER_PAGES, *NOTIFICATION_PAGES)
        ]
        return pages + list(super().get_urls())

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Put the pages over the shards first on the start page and in the side bar."""
        apps = list(super().get_app_list(request, app_label))
        if app_label is not None:
            return apps
        links = {
            "Orders": "admin:orders-list",
            "Customers": "admin:customers",
            "Flash sales": "admin:flash-sales",
            "Queues": "admin:queues",
            "Webhook deliveries": "admin:webhook-deliveries",
        }
        if request.user.has_perm("orders.receive_return"):
            links["Returns"] = "admin:returns"
        shards = {
            "name": "Across shards",
            "app_label": "shards",
            "app_url": reverse("admin:orders-list"),
            "has_module_perms": True,
            "models": [
                {
                    "name": name,
                    "object_name": name,
                    "admin_url": reverse(view),
                    "perms": {"view": True},
                    "view_only": True,
                }
                for name, view in links.items()
            ],
        }
        return [shards, *apps]
