"""What a page of the staff's site is, for the site that mounts it and the menu that shows it."""

from collections.abc import Callable
from typing import NamedTuple

from django.http.response import HttpResponseBase
from django.utils.functional import Promise


class Menu(NamedTuple):
    """A page's entry in the menu: group and title (translated when shown), and the name of a Material symbol."""

    group: str | Promise
    title: str | Promise
    icon: str


class StaffPage(NamedTuple):
    """A page inside the admin: address below `/admin/`, view, URL name, and the permission without which it is 403.

    A page with several permissions opens for whoever has one of them; one with none is for all of the staff.
    """

    address: str
    view: Callable[..., HttpResponseBase]
    name: str
    permissions: tuple[str, ...] = ()
    menu: Menu | None = None
