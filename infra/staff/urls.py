"""Addresses of the staff's pages that belong to no part of the shop."""

from typing import Final

from infra.staff import views
from infra.staff.types import StaffPage

PAGES: Final[tuple[StaffPage, ...]] = (
    StaffPage("step-up/", views.step_up, "step-up"),
    StaffPage("saved-views/", views.saved_views, "saved-views"),
)
