"""The carriers of this installation that take shipments by themselves, by the name that callback addresses use."""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from apps.orders.carriers.base import Carrier


@cache
def _build(name: str) -> Carrier:
    options = dict(settings.SHIPPING_CARRIERS[name])
    carrier: Carrier = import_string(str(options.pop("class")))(name=name, **options)
    return carrier


def find_carrier(name: str) -> Carrier | None:
    """Return the carrier of that name, or None; made once a process, on first use."""
    return _build(name) if name in settings.SHIPPING_CARRIERS else None


def carrier_names() -> tuple[str, ...]:
    """Return the names that the staff may choose from."""
    return tuple(settings.SHIPPING_CARRIERS)
