"""The topology: which shard owns which slot, as this process knows it.

The map is read once and then kept. It is read again every few seconds in the background, and at once (bounded) after
a write met a fence that says otherwise; requests otherwise only read memory, so they go on while the global server is
down. Fences on the shards, not this cache, keep a process with an old map from writing to the wrong place.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from django.db import DatabaseError, connections

from infra.errors import DomainError
from infra.sharding.background import Periodic, call_apart
from infra.sharding.errors import TopologyUnavailable
from infra.sharding.placement import HOME, shard_aliases
from infra.sharding.slots import SLOT_COUNT

logger = logging.getLogger(__name__)

REFRESH_INTERVAL_S: Final = 3.0
STALE_REFRESH_TIMEOUT_S: Final = 1.0
STALE_REFRESH_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Owner:
    """The shard that owns a slot, and since which epoch."""

    shard: int
    alias: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SlotMap:
    """One version of the map: the owner of each slot, by slot."""

    version: int
    owners: tuple[Owner, ...]

    def slots_of(self, alias: str) -> tuple[int, ...]:
        """Return the slots that a shard owns, ascending."""
        return tuple(slot for slot, owner in enumerate(self.owners) if owner.alias == alias)


def load_slot_map() -> SlotMap:
    """Read the map from the database. Raises TopologyUnavailable when it was never seeded, or DatabaseError.

    The version is read before and after, so that a change in between gives no mixture of two versions.
    """
    aliases = shard_aliases()
    with connections[HOME].cursor() as cursor:
        while True:
            version = load_version()
            cursor.execute("SELECT slot, shard, epoch FROM sharding_slot_owner ORDER BY slot")
            rows = cursor.fetchall()
            if load_version() == version:
                break
    if [slot for slot, _, _ in rows] != list(range(SLOT_COUNT)):
        raise TopologyUnavailable("The slot map is not complete. Seed it with `manage.py migrate_all`.")
    return SlotMap(
        version=version,
        owners=tuple(Owner(shard=shard, alias=aliases[shard], epoch=epoch) for _, shard, epoch in rows),
    )


def load_version() -> int:
    """Read the map's version from the database. Raises TopologyUnavailable when it was never seeded."""
    with connections[HOME].cursor() as cursor:
        cursor.execute("SELECT version FROM sharding_slot_map WHERE id = 1")
        row = cursor.fetchone()
    if row is None:
        raise TopologyUnavailable("There is no slot map. Seed it with `manage.py migrate_all`.")
    version: int = row[0]
    return version


class Topology:
    """The slot map as cached in this process; one object a process (`topology`)."""

    def __init__(self) -> None:
        self._slot_map: SlotMap | None = None
        self._may_refresh_at = 0.0
        self._lock = threading.Lock()

    def slot_map(self) -> SlotMap:
        """Return the cached map; the first call reads it. Raises TopologyUnavailable when that fails."""
        slot_map = self._slot_map
        if slot_map is not None:
            return slot_map
        try:
            slot_map = load_slot_map()
        except DatabaseError as error:
            raise TopologyUnavailable("The slot map cannot be read.") from error
        self._slot_map = slot_map
        _refreshing.start_on_use()
        return slot_map

    def owner(self, slot: int) -> Owner:
        """Return the owner of a slot by the cached map."""
        return self.slot_map().owners[slot]

    def refresh(self) -> None:
        """Read the map again if its version has changed. Raises DatabaseError; the old map then stays in use."""
        known = self._slot_map
        if known is None or load_version() != known.version:
            self._slot_map = load_slot_map()

    def refresh_stale(self) -> None:
        """Read the map again because a fence contradicted it: at most twice a second, and waiting a second at most."""
        with self._lock:
            now = time.monotonic()
            if now < self._may_refresh_at:
                return
            # One at a time: those who meet the fence meanwhile do not wait for this one.
            self._may_refresh_at = now + STALE_REFRESH_TIMEOUT_S + STALE_REFRESH_PAUSE_S
        try:
            call_apart(self.refresh, timeout_s=STALE_REFRESH_TIMEOUT_S)
        except (DatabaseError, DomainError, TimeoutError):
            logger.warning("The slot map is stale and cannot be read again now", exc_info=True)
        finally:
            self._may_refresh_at = time.monotonic() + STALE_REFRESH_PAUSE_S

    def forget(self) -> None:
        """Drop the cached map; the next use reads it again."""
        self._slot_map = None


topology: Final = Topology()
_refreshing: Final = Periodic("slot-map-refresh", REFRESH_INTERVAL_S, topology.refresh)
