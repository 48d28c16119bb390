"""Keeps the values of this process up to date."""

import logging
from collections.abc import Callable
from typing import Final

from infra.dynamic.definitions import DEFINED
from infra.dynamic.models import DynamicSetting
from infra.sharding.background import Periodic
from infra.sharding.placement import HOME

logger = logging.getLogger(__name__)

REFRESH_INTERVAL_S: Final = 2.0
_listeners: Final[list[Callable[[], None]]] = []


def on_change(listener: Callable[[], None]) -> None:
    """Have a function called, in the thread that reads the settings, after any of them has changed."""
    _listeners.append(listener)


def refresh() -> None:
    """Read what the staff have set and let it hold in this process.

    Raises the database's error when `default` cannot be read; then the last values go on to hold, which in a process
    that has never read any are the defaults. A stored value that its definition does not take (any longer) is logged
    and its default holds.
    """
    rows = dict(DynamicSetting.objects.using(HOME).values_list("name", "value"))
    changed = False
    for definition in tuple(DEFINED.values()):
        value = definition.default
        if definition.name in rows:
            try:
                value = definition.parse(rows[definition.name])
            except ValueError as error:
                logger.error("a stored setting does not hold: %s", error)  # noqa: TRY400 - nothing to trace
        if value != definition.value:
            definition.value = value
            changed = True
    if changed:
        for listener in _listeners:
            listener()


_refreshing: Final = Periodic("dynamic-settings", REFRESH_INTERVAL_S, refresh)
