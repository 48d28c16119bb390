"""Addresses of the staff's pages, mounted inside the admin, which asks who is there."""

from collections.abc import Callable
from typing import Final

from django.http import HttpResponse

from apps.orders.staff import (
    flash,
    flash_blocks,
    flash_calendar,
    flash_preview,
    payments,
    returns,
    shipping,
    views,
)

PAGES: Final[tuple[tuple[str, Callable[..., HttpResponse], str], ...]] = (
    ("orders/", views.order_list, "orders-list"),
    ("orders/<int:order_id>/", views.order_detail, "orders-order"),
    ("orders/<int:order_id>/refunds/<int:n>/", payments.decide_refund, "orders-refund"),
    ("orders/<int:order_id>/capture/", payments.capture, "orders-capture"),
    ("orders/<int:order_id>/returns/<int:n>/", returns.decide, "orders-return"),
    ("returns/", returns.return_list, "returns"),
    ("orders/<int:order_id>/shipping/", shipping.act, "orders-shipping"),
    ("flash-sales/", flash.sale_list, "flash-sales"),
    ("flash-sales/new/", flash.sale_new, "flash-sales-new"),
    ("flash-sales/calendar/", flash_calendar.calendar, "flash-sales-calendar"),
    ("flash-sales/blocks/", flash_blocks.block_list, "flash-sales-blocks"),
    ("flash-sales/<int:sale_id>/", flash.sale_detail, "flash-sales-sale"),
    ("flash-sales/<int:sale_id>/preview/", flash_preview.preview, "flash-sales-preview"),
    ("flash-sales/<int:sale_id>/live/", flash.sale_live, "flash-sales-live"),
    ("queues/", views.queues, "queues"),
    ("queues/differences/<int:difference_id>/", payments.resolve, "queues-difference"),
)
