"""`manage.py shard_map`: show which shard owns which slots, and whether its fences agree."""

from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from infra.sharding.models import Fence
from infra.sharding.placement import shard_aliases
from infra.sharding.topology import SlotMap, load_slot_map


def runs(slots: tuple[int, ...]) -> str:
    """Write ascending slots as runs: `0-511, 600`."""
    parts = []
    for _, group in groupby(enumerate(slots), key=lambda pair: pair[1] - pair[0]):
        members = [slot for _, slot in group]
        parts.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(parts) or "none"


class Command(BaseCommand):
    """Prints the slot map from the database, a line a shard."""

    help = "Show the slot map and the fences of each shard; fails when they disagree."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the map; exit with an error when a shard's fences do not say the same."""
        slot_map = load_slot_map()
        self.stdout.write(f"slot map version {slot_map.version}")
        disagreeing = [alias for alias in shard_aliases() if not self._show(slot_map, alias)]
        if disagreeing:
            raise CommandError(f"Fences and map disagree on {', '.join(disagreeing)}.")

    def _show(self, slot_map: SlotMap, alias: str) -> bool:
        slots = slot_map.slots_of(alias)
        self.stdout.write(f"{alias}: {len(slots)} slots: {runs(slots)}")
        try:
            fences = {fence.slot: fence for fence in Fence.objects.using(alias)}
        except DatabaseError as error:
            self.stdout.write(f"  fences: unreadable ({type(error).__name__})")
            return False
        closed = tuple(slot for slot in slots if slot in fences and not fences[slot].writable)
        wrong = tuple(slot for slot in slots if slot not in fences or fences[slot].epoch != slot_map.owners[slot].epoch)
        foreign = tuple(sorted(slot for slot in fences if slot not in slots and fences[slot].writable))
        self.stdout.write(f"  closed: {runs(closed)}; missing or of another epoch: {runs(wrong)}")
        if foreign:
            self.stdout.write(f"  writable though owned by another shard: {runs(foreign)}")
        return not wrong and not foreign
