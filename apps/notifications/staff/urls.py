"""Addresses of the staff's pages, mounted inside the admin, which asks who is there."""

from collections.abc import Callable
from typing import Final

from django.http import HttpResponse

from apps.notifications.staff import views

PAGES: Final[tuple[tuple[str, Callable[..., HttpResponse], str], ...]] = (
    ("webhook-deliveries/", views.delivery_list, "webhook-deliveries"),
)
