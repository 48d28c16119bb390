"""The staff's admin site: the theme's with a second factor, and with pages over the shards beside the model pages."""

from itertools import groupby
from typing import Any, Final

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext_lazy as _
from django_otp.admin import OTPAdminSite
from unfold.sites import UnfoldAdminSite

from apps.notifications.staff.urls import PAGES as NOTIFICATION_PAGES
from apps.orders.staff.start import start_context
from apps.orders.staff.urls import PAGES as ORDER_PAGES
from apps.users.staff.login import StaffLoginForm
from apps.users.staff.urls import PAGES as CUSTOMER_PAGES
from infra.staff.pages import guarded, may
from infra.staff.types import Menu, StaffPage
from infra.staff.urls import PAGES as COMMON_PAGES

STAFF_PAGES: Final = tuple(
    StaffPage(*page) for page in (*ORDER_PAGES, *CUSTOMER_PAGES, *NOTIFICATION_PAGES, *COMMON_PAGES)
)


class FloodgateAdminSite(OTPAdminSite, UnfoldAdminSite):
    """Asks for a one-time code besides the password; every page of it is for staff only, and most for some of them."""

    login_form = StaffLoginForm
    login_template = "staff/login.html"
    index_template = "orders/staff/start.html"
    site_url = None  # the shop is elsewhere: an API on another port
    enable_nav_sidebar = True

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the pages over the shards before the model pages."""
        pages: list[URLPattern | URLResolver] = [
            path(page.address, self.admin_view(guarded(page)), name=page.name) for page in STAFF_PAGES
        ]
        return pages + list(super().get_urls())

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show how the shop is doing, as far as who asks may see."""
        return super().index(request, {**start_context(request), **(extra_context or {})})

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Return the menu: the staff's pages by group, then tables by app, without what the role may not open."""
        start = Menu(_("Daily work"), _("Start"), "dashboard")
        entries = [(start, reverse("admin:index"))]
        entries += [
            (page.menu, reverse(f"admin:{page.name}"))
            for page in STAFF_PAGES
            if page.menu is not None and may(request, page.permissions)
        ]
        order = list(dict.fromkeys(str(menu.group) for menu, _link in entries))
        entries.sort(key=lambda entry: order.index(str(entry[0].group)))
        current = max((link for _menu, link in entries if _is_below(request.path, link)), key=len, default="")
        groups = [
            {
                "title": title,
                "separator": number > 0,
                "collapsible": False,
                "items": [_item(menu.title, menu.icon, link, is_active=link == current) for menu, link in members],
            }
            for number, (title, members) in enumerate(groupby(entries, key=lambda entry: entry[0].group))
        ]
        for app in self.get_app_list(request):
            links = [(model["name"], model["admin_url"]) for model in app["models"] if model["admin_url"]]
            items = [_item(name, "table_rows", link, is_active=request.path.startswith(link)) for name, link in links]
            groups.append({"title": app["name"], "separator": True, "collapsible": True, "items": items})
        return groups


def _is_below(address: str, link: str) -> bool:
    return address == link if link == reverse("admin:index") else address.startswith(link)


def _item(title: Any, icon: str, link: str, *, is_active: bool) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": link, "active": is_active, "has_permission": True}
