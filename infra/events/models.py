"""Inbox and dead letters, in the databases where effects land."""

from typing import ClassVar

from django.db import models

from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.models import ShardedModel
from infra.sharding.placement import SHARDS


class InboxEntry(models.Model):
    """An event whose effect a group has had here; the key is the promise that it has it once.

    Partitioned by the event's id: many rows, a short retention, cleared by throttled deletes.
    """

    databases: ClassVar[tuple[str, ...]] = ("inventory", SHARDS)

    pk = models.CompositePrimaryKey("event_id", "group_name")
    event_id = DigestField(16)
    group_name = AsciiField(max_length=32)
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "events_inbox"
        indexes = [models.Index(fields=["seen_at"], name="events_inbox_seen")]

    def __str__(self) -> str:
        return f"{bytes(self.event_id).hex()} seen by {self.group_name}"


class DeadLetter(ShardedModel):
    """An event that a group could not take, or that waits behind such a one of the same aggregate.

    On the shard of the event's slot, so that an emptied bus loses none.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    class State(models.TextChoices):
        """Why the event is here."""

        FAILED = "failed"
        PARKED = "parked"

    pk = models.CompositePrimaryKey("slot", "group_name", "aggregate", "aggregate_id", "aggregate_version", "event_id")
    group_name = AsciiField(max_length=32)
    aggregate = AsciiField(max_length=32)
    aggregate_id = models.BigIntegerField()
    aggregate_version = models.IntegerField()
    event_id = AsciiField(max_length=32)
    type = AsciiField(max_length=64)
    envelope = models.TextField()
    state = AsciiField(max_length=8, choices=State.choices)
    attempt_count = models.IntegerField(default=0)
    last_error = models.CharField(max_length=500, default="", blank=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "events_deadletter"

    def __str__(self) -> str:
        return f"{self.type} version {self.aggregate_version} of {self.aggregate} {self.aggregate_id}: {self.state}"
