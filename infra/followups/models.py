"""What is still to be done for an order, on the order's shard."""

from typing import ClassVar

from django.db import models

from infra.sharding.fields import AsciiField
from infra.sharding.models import ShardedModel
from infra.sharding.placement import SHARDS


class FollowUpRow(ShardedModel):
    """One row for each (order, kind, n) that has work outstanding; gone when nothing is left to do.

    A row is rare beside the orders (it lives for as long as its work), hence few partitions.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "order_id", "kind", "n")
    order_id = models.BigIntegerField()
    kind = AsciiField(max_length=32)
    n = models.SmallIntegerField(default=0)
    due_at = models.DateTimeField()
    attempt_count = models.IntegerField(default=0)
    version = models.IntegerField(default=1)
    last_error = models.CharField(max_length=200, default="", blank=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "followups_followup"
        indexes = [models.Index(fields=["kind", "due_at"], name="followups_due")]

    def __str__(self) -> str:
        return f"{self.kind} {self.n} of order {self.order_id}"
