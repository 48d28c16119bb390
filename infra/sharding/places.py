"""Places: where a user's or an order's rows are, and transactions there that a stale map cannot misplace."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from django.db import connections, transaction

from infra.sharding.errors import PlaceConflict, SlotClosed, StaleMap
from infra.sharding.ids import slot_of
from infra.sharding.placement import shard_aliases
from infra.sharding.slots import slot_of_user
from infra.sharding.topology import topology

__all__ = [
    "Place",
    "place_of_order",
    "place_of_slot",
    "place_of_user",
    "read_fences",
    "shard_aliases",
    "shard_atomic",
]


@dataclass(frozen=True, slots=True)
class Place:
    """A slot and its owner at one epoch, by the map that this process knows."""

    slot: int
    shard: int
    alias: str
    epoch: int

    def atomic(self) -> AbstractContextManager[None]:
        """Open a transaction on the shard that first reads the slot's fence under a shared lock.

        Raises StaleMap or SlotClosed, with nothing written, when the slot has moved or is closed. A nested use for
        the same slot joins the open transaction without a savepoint; for another slot it raises PlaceConflict.
        """
        return _fenced(self.alias, {self.slot: self.epoch})


def place_of_slot(slot: int) -> Place:
    """Return the place of a slot. Raises TopologyUnavailable when the map cannot be read the first time."""
    owner = topology.owner(slot)
    return Place(slot=slot, shard=owner.shard, alias=owner.alias, epoch=owner.epoch)


def place_of_user(user_id: int) -> Place:
    """Return the place of all rows of a user."""
    return place_of_slot(slot_of_user(user_id))


def place_of_order(order_id: int) -> Place:
    """Return the place of all rows of an order: its user's, told by the id alone."""
    return place_of_slot(slot_of(order_id))


def shard_atomic(alias: str, slots: Iterable[int]) -> AbstractContextManager[None]:
    """Open one transaction for rows of several slots of one shard, with all their fences read first.

    Raises StaleMap (also when the map says that one of the slots lives elsewhere) or SlotClosed; nothing is written.
    """
    epochs: dict[int, int] = {}
    for slot in slots:
        owner = topology.owner(slot)
        if owner.alias != alias:
            raise StaleMap(f"Slot {slot} is not on {alias}.")
        epochs[slot] = owner.epoch
    return _fenced(alias, epochs)


def read_fences(alias: str, epochs: Mapping[int, int]) -> None:
    """Check, in the open transaction, that the shard owns the slots at these epochs and takes writes for them.

    The rows stay locked (shared) until the transaction ends, so that a slot cannot be closed under it. Raises
    StaleMap, SlotClosed.
    """
    slots = ",".join([str(slot) for slot in epochs])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT slot, epoch, writable FROM sharding_fence WHERE slot IN ({slots}) LOCK IN SHARE MODE"  # noqa: S608 - numbers
        )
        fences = {slot: (epoch, writable) for slot, epoch, writable in cursor.fetchall()}
    for slot, epoch in epochs.items():
        if slot not in fences or fences[slot][0] != epoch:
            raise StaleMap(f"Slot {slot} is no longer on {alias} at epoch {epoch}.")
        if not fences[slot][1]:
            raise SlotClosed(f"Slot {slot} takes no writes now.")


class _OpenPlaces(threading.local):
    """The slots fenced by the open transaction of this thread or greenlet, by alias."""

    def __init__(self) -> None:
        self.slots: dict[str, frozenset[int]] = {}


_open: Final = _OpenPlaces()


@contextmanager
def _fenced(alias: str, epochs: Mapping[int, int]) -> Iterator[None]:
    fenced = _open.slots.get(alias)
    if fenced is not None:
        if not fenced.issuperset(epochs):
            raise PlaceConflict(f"Slots {sorted(set(epochs) - fenced)} are not in the open transaction on {alias}.")
        with transaction.atomic(using=alias, savepoint=False):
            yield
        return
    try:
        # durable: this transaction commits at its end, and is not part of one that read no fence.
        with transaction.atomic(using=alias, durable=True):
            read_fences(alias, epochs)
            _open.slots[alias] = frozenset(epochs)
            try:
                yield
            finally:
                del _open.slots[alias]
    except StaleMap:
        topology.refresh_stale()
        raise
