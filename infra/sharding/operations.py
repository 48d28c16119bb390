"""Migration operations for tables on the shards."""

from collections.abc import Sequence
from typing import Any

from django.db.migrations.operations import RunSQL

from infra.sharding.placement import SHARDS


class PartitionBySlot(RunSQL):
    """Partition a table by `HASH (slot)`; every unique key of the table must hold the slot.

    Belongs right after the CreateModel of the table, while it is empty.
    """

    reduces_to_sql = True

    def __init__(self, table: str, *, partitions: int, databases: Sequence[str] = (SHARDS,)) -> None:
        self.table = table
        self.partitions = partitions
        self.databases = tuple(databases)
        super().__init__(
            sql=f"ALTER TABLE `{table}` PARTITION BY HASH (slot) PARTITIONS {partitions}",
            reverse_sql=f"ALTER TABLE `{table}` REMOVE PARTITIONING",
            hints={"databases": self.databases},
        )

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Describe the operation by its own arguments."""
        return (
            type(self).__name__,
            [self.table],
            {"partitions": self.partitions, "databases": self.databases},
        )

    def describe(self) -> str:
        """Return the line that `migrate` shows."""
        return f"Partition {self.table} by slot into {self.partitions}"
