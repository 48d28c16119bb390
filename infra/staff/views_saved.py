"""Saved views: the queries of lists that a member of the staff keeps, a few for each page."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from django.contrib.auth.models import AbstractUser
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from infra.mysql.errors import is_duplicate_key
from infra.sharding.placement import HOME
from infra.staff.models import SavedView

MAX_VIEWS: Final = 20
_MAX_NAME: Final = 60
_MAX_QUERY: Final = 1000
# What says how far one has gone is no part of a view.
_POSITION: Final = frozenset({"before"})


def saved_views_of(staff: AbstractUser, page: str) -> list[SavedView]:
    """Return the views that an account keeps of a page, by name."""
    return list(SavedView.objects.using(HOME).filter(staff_id=staff.pk, page=page).order_by("name")[:MAX_VIEWS])


def save_view(staff: AbstractUser, *, page: str, name: str, query: str) -> str:
    """Keep a query under a name, in place of what had the name; returns why not, or nothing."""
    name = name.strip()
    query = urlencode([(key, value) for key, value in parse_qsl(query) if key not in _POSITION])
    if not name or len(name) > _MAX_NAME or not page.isascii() or len(query) > _MAX_QUERY:
        return _("Give the view a name of up to %(count)s characters.") % {"count": _MAX_NAME}
    own = SavedView.objects.using(HOME).filter(staff_id=staff.pk, page=page)
    if own.filter(name=name).update(query=query):
        return ""
    if own.count() >= MAX_VIEWS:
        return _("You keep %(count)s views of this page; forget one first.") % {"count": MAX_VIEWS}
    try:
        with transaction.atomic(using=HOME):
            SavedView(staff_id=staff.pk, page=page, name=name, query=query).save(using=HOME, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        own.filter(name=name).update(query=query)
    return ""


def forget_view(staff: AbstractUser, view_id: str) -> None:
    """Forget one of one's own views."""
    if view_id.isascii() and view_id.isdigit() and len(view_id) < 19:
        SavedView.objects.using(HOME).filter(staff_id=staff.pk, id=int(view_id)).delete()
