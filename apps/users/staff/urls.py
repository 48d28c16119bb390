"""Addresses of the staff's pages, mounted inside the admin, which asks who is there and for each page's permission."""

from typing import Final

from django.utils.translation import gettext_lazy as _

from apps.users.staff import views
from infra.staff.types import Menu, StaffPage

PAGES: Final[tuple[StaffPage, ...]] = (
    StaffPage(
        "customers/", views.customer_search, "customers", (views.VIEW,), Menu(_("Daily work"), _("Customers"), "group")
    ),
    StaffPage("customers/<int:user_id>/", views.customer_detail, "customers-customer", (views.VIEW,)),
    StaffPage("customers/<int:user_id>/do/<slug:action_name>/", views.customer_act, "customers-act", (views.BLOCK,)),
    StaffPage("customers/<int:user_id>/person/", views.customer_person, "customers-person", (views.UNMASK,)),
)
