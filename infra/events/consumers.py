"""Which groups there are: each app registers its subscriptions when its `consumers` module is loaded."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from django.conf import settings

from infra.events.envelope import Envelope

_GROUP_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_subscriptions: Final[dict[str, "Subscription"]] = {}


@dataclass(frozen=True, slots=True)
class Subscription:
    """A group and what it does with events.

    `consume` is called with events of `types` that belong to one shard, each aggregate's in order; it either has its
    effect for all of them and returns, or raises. What raised is given again, alone and with pauses, then
    dead-lettered; an outage is waited out. It may be called again with events it has already had (see
    `infra.events.inbox.first_time`).
    """

    group: str
    types: frozenset[str]
    consume: Callable[[Sequence[Envelope]], None]


def subscribe(
    group: str, types: Sequence[str] | frozenset[str] | set[str], consume: Callable[..., None]
) -> Subscription:
    """Register a group. Raises ValueError for a name that is taken or is none (`[a-z][a-z0-9_]*`, up to 32)."""
    if not _GROUP_NAME.match(group):
        raise ValueError(f"{group!r} is no name of a group.")
    if group in _subscriptions:
        raise ValueError(f"The group {group!r} is registered twice; a group is one subscription.")
    _subscriptions[group] = Subscription(group=group, types=frozenset(types), consume=consume)
    return _subscriptions[group]


def subscriptions() -> dict[str, Subscription]:
    """Load the modules that the setting EVENT_CONSUMERS names, and return all subscriptions by group."""
    for module in settings.EVENT_CONSUMERS:
        import_module(module)
    return dict(_subscriptions)
