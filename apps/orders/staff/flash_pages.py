"""What the staff's pages of flash sales share: rights, the log, names, the sale that an address names."""

from collections.abc import Collection, Mapping
from typing import Final, cast

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.inventory.errors import UnknownSku
from apps.promotions.errors import SaleChanged, SaleNotFound, SaleRefused
from apps.promotions.selectors import get_sale
from apps.promotions.types import CONSOLE, Sale
from apps.users.models import StaffUser

VIEW: Final = "promotions.view_flashsale"
ADD: Final = "promotions.add_flashsale"
CHANGE_SALE: Final = "promotions.change_flashsale"
APPROVE: Final = "promotions.approve_flashsale"
REFUSALS: Final = (SaleRefused, SaleChanged, UnknownSku)


def need(request: HttpRequest, permission: str) -> None:
    """Raise PermissionDenied for whoever lacks the permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def staff_id(request: HttpRequest) -> int:
    """Return the account of whoever asks."""
    return cast(StaffUser, request.user).id


def names_of(staff_ids: Collection[int]) -> list[str]:
    """Return the names of staff accounts; the number of one that is gone, and the console's."""
    names = dict(StaffUser.objects.filter(id__in=staff_ids).values_list("id", "username"))
    return [names.get(each, "the console" if each == CONSOLE else f"staff account {each}") for each in staff_ids]


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


def page(request: HttpRequest, template: str, context: Mapping[str, object]) -> HttpResponse:
    """Render a page inside the admin."""
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
