"""What other parts of the shop show on a customer's page, each registered by its own staff pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import AbstractUser
from django.db import OperationalError
from django.utils.functional import Promise


@dataclass(frozen=True, slots=True)
class CustomerSection:
    """A part of the page: `read(user id)` returns what its template shows; only who has the permission sees it."""

    name: str
    title: str | Promise
    template: str
    read: Callable[[int], Mapping[str, Any]]
    permission: str


_sections: Final[dict[str, CustomerSection]] = {}


def register_customer_section(section: CustomerSection) -> CustomerSection:
    """Add a section to the page; raises ValueError for a name that is taken."""
    if section.name in _sections:
        raise ValueError(f"There is already a section {section.name!r}.")
    _sections[section.name] = section
    return section


def customer_sections(user_id: int, staff: AbstractUser) -> list[dict[str, Any]]:
    """Return the sections that the account may see, read; one whose database is away says so."""
    shown = []
    for section in _sections.values():
        if not staff.has_perm(section.permission):
            continue
        try:
            shown.append({"section": section, "is_away": False, **section.read(user_id)})
        except OperationalError:
            shown.append({"section": section, "is_away": True})
    return shown
