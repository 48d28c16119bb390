"""Orders as a file: the list of the staff, narrowed as it was, without personal data beyond city and country."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import OperationalError
from django.utils.translation import gettext_lazy as _

from apps.orders.listing import list_for_staff
from apps.orders.staff.forms import OrderSearchForm
from apps.orders.staff.views import NobodyKnown, narrowed_by, user_of
from infra.sharding.ids import MAX_ID
from infra.sharding.monthly import existing_months
from infra.sharding.places import shard_aliases
from infra.staff.exports import ExportKind, ExportSlice, register_export

_ROWS: Final = 2000
_BUDGET_S: Final = 5.0
EXPORT: Final = "orders.export_orders"
_HEADER: Final = (
    "order", "placed_at", "status", "payment", "shipping", "currency", "total", "city", "country", "user", "version"
)  # fmt: skip


def _read(query: Mapping[str, Any], position: Any) -> ExportSlice:
    form = OrderSearchForm(dict(query))
    if not form.is_valid():
        return ExportSlice([], None, 1.0)
    asked = form.cleaned_data
    try:
        user_id = user_of(asked["wanted"]) if asked["wanted"] else asked["user"]
    except NobodyKnown:
        return ExportSlice([], None, 1.0)
    narrowed = narrowed_by(asked, user_id=user_id)
    listed = list_for_staff(narrowed, limit=_ROWS, before_id=position, budget_s=_BUDGET_S)
    if listed.unreachable:
        raise OperationalError(f"{', '.join(listed.unreachable)}: no answer")
    rows = [
        (
            row.id,
            row.placed_at.isoformat(),
            row.status,
            row.payment_status,
            row.fulfillment_status,
            row.currency,
            row.total,
            row.city,
            row.country,
            row.user_id,
            row.version,
        )
        for row in listed.rows
    ]
    return ExportSlice(rows, listed.next_before, _share(listed.next_before))


def _share(next_before: int | None) -> float:
    """Return which part of all time since the first order is behind the next row."""
    months = sorted({month for alias in shard_aliases() for month in existing_months(alias)})
    if next_before is None or not months:
        return 1.0
    first, last = months[0].first_id, min(months[-1].next().first_id, MAX_ID)
    return min(max((last - next_before) / max(last - first, 1), 0.0), 1.0)


register_export(ExportKind("orders", _("Orders"), EXPORT, _HEADER, _read))
