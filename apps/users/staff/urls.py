"""Addresses of the staff's pages, mounted inside the admin, which asks who is there."""

from collections.abc import Callable
from typing import Final

from django.http import HttpResponse

from apps.users.staff import views

PAGES: Final[tuple[tuple[str, Callable[..., HttpResponse], str], ...]] = (
    ("customers/", views.customer_search, "customers"),
    ("customers/<int:user_id>/", views.customer_detail, "customers-customer"),
)
