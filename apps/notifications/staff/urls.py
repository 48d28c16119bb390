"""Addresses of the staff's pages, mounted inside the admin, which asks who is there and for each page's permission."""

from typing import Final

from django.utils.translation import gettext_lazy as _

from apps.notifications.staff import views
from infra.staff.types import Menu, StaffPage

PAGES: Final[tuple[StaffPage, ...]] = (
    StaffPage(
        "webhook-deliveries/",
        views.delivery_list,
        "webhook-deliveries",
        (views.VIEW,),
        Menu(_("Daily work"), _("Webhook deliveries"), "outgoing_mail"),
    ),
)
