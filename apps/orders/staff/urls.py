"""Addresses of the staff's pages, mounted inside the admin, which asks who is there and for each page's permission."""

from typing import Final

from django.utils.translation import gettext_lazy as _

from apps.orders.staff import (
    approval_page,
    bulk,
    customer_orders,
    export,
    flash,
    flash_blocks,
    flash_calendar,
    flash_preview,
    order_page,
    parts,
    payments,
    queue_pages,
    returns,
    shipping,
    views,
)
from apps.orders.staff.flash_pages import ADD, VIEW
from apps.orders.staff.order_page import NOTE, UNMASK
from apps.orders.staff.order_page import VIEW as VIEW_ORDER
from apps.orders.staff.work import VIEW_QUEUES
from infra.staff import export_pages
from infra.staff.types import Menu, StaffPage

_DAILY: Final = _("Daily work")
_SALES: Final = _("Sales")

PAGES: Final[tuple[StaffPage, ...]] = (
    StaffPage("orders/", views.order_list, "orders-list", (VIEW_ORDER,), Menu(_DAILY, _("Orders"), "receipt_long")),
    StaffPage("orders/<int:order_id>/", order_page.order_detail, "orders-order", (VIEW_ORDER,)),
    StaffPage("orders/<int:order_id>/do/<slug:action_name>/", order_page.order_act, "orders-act", (VIEW_ORDER,)),
    StaffPage("orders/<int:order_id>/note/", order_page.order_note, "orders-note", (NOTE,)),
    StaffPage("orders/<int:order_id>/refunds/<int:n>/", payments.decide_refund, "orders-refund", (payments.DECIDE,)),
    StaffPage("orders/<int:order_id>/capture/", payments.capture, "orders-capture", (payments.CAPTURE,)),
    StaffPage("orders/<int:order_id>/returns/<int:n>/", returns.decide, "orders-return", (returns.RECEIVE,)),
    StaffPage("returns/", returns.return_list, "returns", (returns.RECEIVE,), Menu(_DAILY, _("Returns"), "undo")),
    StaffPage("orders/<int:order_id>/shipping/", shipping.act, "orders-shipping", (shipping.SHIP,)),
    StaffPage("orders/<int:order_id>/person/", order_page.order_person, "orders-person", (UNMASK,)),
    StaffPage("flash-sales/", flash.sale_list, "flash-sales", (VIEW,), Menu(_SALES, _("Flash sales"), "bolt")),
    StaffPage("flash-sales/new/", flash.sale_new, "flash-sales-new", (ADD,)),
    StaffPage(
        "flash-sales/calendar/",
        flash_calendar.calendar,
        "flash-sales-calendar",
        (VIEW,),
        Menu(_SALES, _("Calendar"), "calendar_month"),
    ),
    StaffPage(
        "flash-sales/blocks/",
        flash_blocks.block_list,
        "flash-sales-blocks",
        (flash_blocks.VIEW,),
        Menu(_SALES, _("Blocked buyers"), "block"),
    ),
    StaffPage("flash-sales/<int:sale_id>/", flash.sale_detail, "flash-sales-sale", (VIEW,)),
    StaffPage("flash-sales/<int:sale_id>/preview/", flash_preview.preview, "flash-sales-preview", (VIEW,)),
    StaffPage("flash-sales/<int:sale_id>/live/", flash.sale_live, "flash-sales-live", (VIEW,)),
    StaffPage("queues/", queue_pages.queues, "queues", (VIEW_QUEUES,), Menu(_DAILY, _("Queues"), "inbox")),
    StaffPage("queues/<slug:queue_name>/", queue_pages.queue_items, "queues-queue", (VIEW_QUEUES,)),
    StaffPage(
        "approvals/",
        approval_page.approvals,
        "approvals",
        (approval_page.APPROVE,),
        Menu(_DAILY, _("Second person"), "group_add"),
    ),
    StaffPage("bulk/", bulk.bulk_list, "bulk", (bulk.BULK,), Menu(_DAILY, _("Many orders at once"), "checklist")),
    StaffPage("bulk/<int:job_id>/", bulk.bulk_job, "bulk-job", (bulk.BULK,)),
    StaffPage("exports/", export_pages.exports, "exports", (export.EXPORT,), Menu(_DAILY, _("Exports"), "download")),
    StaffPage("exports/<int:export_id>/file/", export_pages.export_file, "exports-file", (export.EXPORT,)),
)

# Imported for what they register: the orders on a customer's page, parts of the order's page.
__all__ = ["PAGES", "customer_orders", "parts"]
