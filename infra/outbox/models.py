"""Rows of the outbox and of its relay, in each database that facts are written to."""

from typing import ClassVar

from django.db import models

from infra.sharding.fields import AsciiField
from infra.sharding.placement import SHARDS


class OutboxEvent(models.Model):
    """A fact on its way to the bus; its id is the order of publication.

    Ids are given in the order of the appends, which within one aggregate is the order of the commits; across aggregates
    it is not, so a lower id may show up later. Partitioned by id: bounded tables, no promise hangs on the key.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions", SHARDS)

    id = models.BigAutoField(primary_key=True)
    event_id = AsciiField(max_length=32)
    type = AsciiField(max_length=64)
    schema_version = models.SmallIntegerField(default=1)
    aggregate = AsciiField(max_length=32)
    aggregate_id = models.BigIntegerField()
    aggregate_version = models.IntegerField()
    slot = models.SmallIntegerField()
    user_id = models.BigIntegerField()
    order_id = models.BigIntegerField(null=True)
    occurred_at = models.DateTimeField()
    payload = models.TextField()
    headers = models.TextField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "outbox_event"
        indexes = [models.Index(fields=["sent_at", "id"], name="outbox_event_sent")]

    def __str__(self) -> str:
        return f"{self.type} of {self.aggregate} {self.aggregate_id}, version {self.aggregate_version}"


class Relay(models.Model):
    """Who publishes this database's events, until when, and what the bus was last seen to remember.

    `token` grows with each change of holder; the bus refuses a lower one. `bus_epoch` and `batch_number` are what the
    bus must still know; if it does not, it has lost its memory and is fed again from `refeed_after` up to
    `refeed_through` (ids).
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions", SHARDS)

    name = AsciiField(max_length=32, primary_key=True)
    holder = AsciiField(max_length=64, default="")
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()
    bus_epoch = AsciiField(max_length=32, default="")
    batch_number = models.BigIntegerField(default=0)
    refeed_after = models.BigIntegerField(null=True)
    refeed_through = models.BigIntegerField(default=0)

    class Meta:
        db_table = "outbox_relay"

    def __str__(self) -> str:
        return f"relay {self.name} held by {self.holder or 'nobody'}"
