"""Tables of the topology, and the base of models that live on the shards."""

from typing import ClassVar, Self, TypeVar

from django.db import models

from infra.sharding.fields import AsciiField
from infra.sharding.placement import HOME, SHARDS
from infra.sharding.places import Place, place_of_order, place_of_user

M = TypeVar("M", bound=models.Model)


class SlotMapVersion(models.Model):
    """The version of the slot map: one row, raised by one with every change of an owner."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    id = models.SmallIntegerField(primary_key=True)
    version = models.BigIntegerField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "sharding_slot_map"

    def __str__(self) -> str:
        return f"slot map, version {self.version}"


class SlotOwner(models.Model):
    """Which shard owns a slot; the epoch grows each time the slot moves."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    slot = models.SmallIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    epoch = models.IntegerField()

    class Meta:
        db_table = "sharding_slot_owner"

    def __str__(self) -> str:
        return f"slot {self.slot} on shard {self.shard}, epoch {self.epoch}"


class Worker(models.Model):
    """A worker number and its high-water mark: the latest time, in ids' milliseconds, that its holder may use.

    The number is free once the mark has passed. The next holder issues above it, so that no id is ever made twice,
    whatever the clocks of the two holders say.
    """

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    number = models.SmallIntegerField(primary_key=True)
    holder = AsciiField(32, default="")
    high_water_ms = models.BigIntegerField(default=0)
    leased_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sharding_worker"

    def __str__(self) -> str:
        return f"worker number {self.number}"


class Fence(models.Model):
    """On each shard, a row for each slot it owns; every write transaction reads it under a shared lock."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    slot = models.SmallIntegerField(primary_key=True)
    epoch = models.IntegerField()
    writable = models.BooleanField(default=True)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "sharding_fence"

    def __str__(self) -> str:
        return f"slot {self.slot} at epoch {self.epoch}, {'writable' if self.writable else 'closed'}"


class MonthTable(models.Model):
    """On each shard, the register of the monthly tables that have been made."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("logical_table", "month")
    logical_table = AsciiField(48)
    month = models.IntegerField()
    partitions = models.SmallIntegerField()
    schema_version = models.SmallIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "sharding_month"

    def __str__(self) -> str:
        return f"{self.logical_table}_{self.month}"


class ShardedQuerySet(models.QuerySet[M]):
    """Rows of a model that lives on the shards, reached through the user, the order, or a shard."""

    def for_user(self, user_id: int) -> Self:
        """Return the rows in the user's slot, on the user's shard. Not yet narrowed to the user."""
        return self.at(place_of_user(user_id))

    def for_order(self, order_id: int) -> Self:
        """Return the rows in the order's slot, on its shard. Not yet narrowed to the order."""
        return self.at(place_of_order(order_id))

    def at(self, place: Place) -> Self:
        """Return the rows of a place: its alias, its slot."""
        return self.using(place.alias).filter(slot=place.slot)

    def on_shard(self, alias: str) -> Self:
        """Return the rows of a whole shard: for fan-out, never for one user's request."""
        return self.using(alias)


class ShardedModel(models.Model):
    """Base of models on the shards that have no month.

    The primary key begins with the slot (`pk = models.CompositePrimaryKey("slot", ...)`), the table is partitioned by
    it (`PartitionBySlot`), and so every unique key holds it.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    slot = models.SmallIntegerField()

    objects = models.Manager.from_queryset(ShardedQuerySet)()

    class Meta:
        abstract = True
