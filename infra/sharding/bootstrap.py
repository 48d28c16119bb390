"""The first topology: slots spread over the shards in contiguous runs, their fences, the worker numbers."""

from django.db import transaction
from django.utils import timezone

from infra.sharding.ids import IMPORT_WORKER
from infra.sharding.models import Fence, SlotMapVersion, SlotOwner, Worker
from infra.sharding.month_tables import make_months
from infra.sharding.named_lock import named_lock
from infra.sharding.placement import HOME, shard_aliases
from infra.sharding.slots import SLOT_COUNT
from infra.sharding.topology import load_slot_map, topology

__all__ = ["make_months", "seed_topology"]


def seed_topology() -> None:
    """Write what is missing of slot map, worker numbers and fences; changes nothing that is there.

    Idempotent, and safe to run at once in several processes.
    """
    with named_lock(HOME, "seed-topology"):
        _seed_global()
        slot_map = load_slot_map()
        for alias in shard_aliases():
            present = set(Fence.objects.using(alias).values_list("slot", flat=True))
            Fence.objects.using(alias).bulk_create(
                Fence(slot=slot, epoch=slot_map.owners[slot].epoch, writable=True, updated_at=timezone.now())
                for slot in slot_map.slots_of(alias)
                if slot not in present
            )
    topology.forget()


def _seed_global() -> None:
    shard_count = len(shard_aliases())
    with transaction.atomic(using=HOME):
        if not SlotMapVersion.objects.using(HOME).exists():
            SlotOwner.objects.using(HOME).bulk_create(
                SlotOwner(slot=slot, shard=slot * shard_count // SLOT_COUNT, epoch=1) for slot in range(SLOT_COUNT)
            )
            SlotMapVersion.objects.using(HOME).create(id=1, version=1, updated_at=timezone.now())
        present = set(Worker.objects.using(HOME).values_list("number", flat=True))
        Worker.objects.using(HOME).bulk_create(
            Worker(number=number) for number in range(IMPORT_WORKER) if number not in present
        )
