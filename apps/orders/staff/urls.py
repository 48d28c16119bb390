"""Addresses of the staff's pages, mounted inside the admin, which asks who is there."""

from collections.abc import Callable
from typing import Final

from django.http import HttpResponse

from apps.orders.staff import views

PAGES: Final[tuple[tuple[str, Callable[..., HttpResponse], str], ...]] = (
    ("orders/", views.order_list, "orders-list"),
    ("orders/<int:order_id>/", views.order_detail, "orders-order"),
    ("queues/", views.queues, "queues"),
)
