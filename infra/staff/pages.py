"""What every page of the staff does: ask for the permission, name who asks, render inside the admin."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import cast

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from infra.staff.types import StaffPage


def may(request: HttpRequest, permissions: Collection[str]) -> bool:
    """Whether who asks has one of the permissions; none asked for means that all of the staff may."""
    return not permissions or any(request.user.has_perm(permission) for permission in permissions)


def need(request: HttpRequest, *permissions: str) -> None:
    """Raise PermissionDenied for whoever has none of the permissions."""
    if not may(request, permissions):
        raise PermissionDenied


def guarded(page: StaffPage) -> Callable[..., HttpResponseBase]:
    """Return the page's view, which answers 403 to whoever may not open it, whatever the method."""

    @wraps(page.view)
    def view(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        need(request, *page.permissions)
        return page.view(request, *args, **kwargs)

    return view


def staff_of(request: HttpRequest) -> AbstractUser:
    """Return the account of whoever asks; the admin has made sure that there is one."""
    return cast(AbstractUser, request.user)


def names_of(staff_ids: Collection[int]) -> dict[int, str]:
    """Return the names of staff accounts; the number of one that is gone."""
    known = dict(get_user_model().objects.filter(id__in=set(staff_ids)).values_list("id", "username"))
    return {each: known.get(each, _("staff account %(number)s") % {"number": each}) for each in staff_ids}


def page(request: HttpRequest, template: str, context: Mapping[str, object], *, status: int = 200) -> TemplateResponse:
    """Render a page inside the admin."""
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403 in the admin's look (`handler403` of the staff's addresses)."""
    answer = page(request, "staff/refused.html", {"title": _("Not allowed")}, status=403)
    return answer.render()
