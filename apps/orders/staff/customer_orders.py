"""The latest orders of a customer, on their page."""

from collections.abc import Mapping
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from apps.orders.listing import StaffFilter, list_for_staff
from apps.orders.staff.order_page import VIEW
from apps.users.staff.sections import CustomerSection, register_customer_section

_SHOWN: Final = 10


def _latest(user_id: int) -> Mapping[str, Any]:
    listed = list_for_staff(StaffFilter(user_id=user_id), limit=_SHOWN)
    return {"orders": listed.rows, "is_more": listed.next_before is not None, "away": listed.unreachable}


register_customer_section(
    CustomerSection("orders", _("Latest orders"), "orders/staff/sections/customer_orders.html", _latest, VIEW)
)
