"""What the staff's pages of flash sales share: rights, the log, names, the sale that an address names."""

from collections.abc import Collection
from typing import Final

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _

from apps.inventory.errors import UnknownSku
from apps.promotions.errors import SaleChanged, SaleNotFound, SaleRefused
from apps.promotions.selectors import get_sale
from apps.promotions.types import CONSOLE, Sale
from infra.staff import pages
from infra.staff.pages import need, page, staff_of

__all__ = ["need", "page"]

VIEW: Final = "promotions.view_flashsale"
ADD: Final = "promotions.add_flashsale"
CHANGE_SALE: Final = "promotions.change_flashsale"
APPROVE: Final = "promotions.approve_flashsale"
REFUSALS: Final = (SaleRefused, SaleChanged, UnknownSku)


def staff_id(request: HttpRequest) -> int:
    """Return the account of whoever asks."""
    return int(staff_of(request).pk)


def names_of(staff_ids: Collection[int]) -> list[str]:
    """Return the names of staff accounts, in the order asked; the number of one that is gone, and the console's."""
    names = {**pages.names_of(staff_ids), CONSOLE: _("the console")}
    return [names[each] for each in staff_ids]


def sale_or_404(sale_id: int) -> Sale:
    """Return the sale as it is now."""
    try:
        return get_sale(sale_id)
    except (SaleNotFound, OverflowError) as error:
        raise Http404 from error


def log_change(request: HttpRequest, model: type[Model], object_id: int, shown: str, what: str) -> None:
    """Note in the admin's log who did what."""
    LogEntry.objects.create(
        user_id=staff_id(request),
        content_type=ContentType.objects.get_for_model(model),
        object_id=str(object_id),
        object_repr=shown[:200],
        action_flag=CHANGE,
        change_message=what,
    )
