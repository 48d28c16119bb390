"""Subscriptions and replays (small, in `default`); on each shard the log of its orders' events, and deliveries.

The rows on the shards belong to a shard, not to a slot: they are numbered by the shard, and stay where they are when a
slot moves.
"""

from typing import ClassVar

from django.db import models

from infra.crypto.fields import EncryptedTextField
from infra.outgoing.client import MAX_URL_LENGTH
from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.placement import SHARDS


class Subscription(models.Model):
    """Another system that is told of events: by webhook where there is a URL, by polling with its token.

    An empty list of types means all. Two secrets sign: the present one, and the one before it until it is retired.
    """

    name = models.CharField(max_length=100, unique=True)
    url = models.CharField(max_length=MAX_URL_LENGTH, blank=True, default="")
    event_types = models.JSONField(default=list, blank=True)
    secret = EncryptedTextField()
    previous_secret = EncryptedTextField(blank=True, default="")
    secret_rotated_at = models.DateTimeField()
    token_digest = DigestField(32, null=True, unique=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True, default="")
    disabled_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "notifications_subscription"

    def __str__(self) -> str:
        return self.name


class Replay(models.Model):
    """Past events that a subscription is to be sent (again): all of its types from a time on.

    `progress` has, for each shard that was begun, the position that was done last and the last one to do.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE)
    since = models.DateTimeField()
    progress = models.JSONField(default=dict)
    found_count = models.BigIntegerField(default=0)
    version = models.IntegerField(default=1)
    reason = models.CharField(max_length=200)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "notifications_replay"
        indexes = [models.Index(fields=["finished_at"], name="notifications_replay_open")]

    def __str__(self) -> str:
        return f"replay to {self.subscription} since {self.since:%Y-%m-%d %H:%M}"


class LogHead(models.Model):
    """The last position of a shard's log, in one row.

    Whoever appends raises it first, and so holds its lock until the commit: positions have no gaps, and are in the
    order of the commits. `moved_at` never goes back. What is at or below `purged_through` may be gone.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    id = models.SmallIntegerField(primary_key=True)
    position = models.BigIntegerField()
    moved_at = models.DateTimeField()
    purged_through = models.BigIntegerField()

    class Meta:
        db_table = "notifications_log_head"

    def __str__(self) -> str:
        return f"log at {self.position}"


class LoggedEvent(models.Model):
    """An event as other systems see it, at its place in the shard's log.

    Partitioned by position, so that appending goes to one partition at a time. A week of twelve million events a day
    over two shards is 330,000 rows in each of 128 partitions.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    position = models.BigIntegerField(primary_key=True)
    event_id = AsciiField(max_length=32)
    type = AsciiField(max_length=64)
    logged_at = models.DateTimeField()
    body = models.TextField()

    class Meta:
        db_table = "notifications_event"
        indexes = [models.Index(fields=["logged_at"], name="notifications_event_logged")]

    def __str__(self) -> str:
        return f"{self.type} at {self.position}"


class DeliveryState(models.TextChoices):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Delivery(models.Model):
    """An event that a subscription is to be sent, on the shard of the event.

    `due_at` is null once nothing is to be done; while a sender has the delivery, it is when its claim ends. `lease`
    names that claim: only who holds it writes the outcome.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("position", "subscription_id")
    position = models.BigIntegerField()
    subscription_id = models.BigIntegerField()
    state = AsciiField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    attempt_count = models.IntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    lease = AsciiField(max_length=32, default="")
    last_status = models.SmallIntegerField(null=True)
    last_error = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    keep_until = models.DateTimeField()

    class Meta:
        db_table = "notifications_delivery"
        indexes = [
            models.Index(fields=["subscription_id", "due_at"], name="notifications_delivery_due"),
            models.Index(fields=["subscription_id", "state", "position"], name="notifications_delivery_state"),
            models.Index(fields=["keep_until"], name="notifications_delivery_keep"),
        ]

    def __str__(self) -> str:
        return f"delivery of {self.position} to {self.subscription_id}: {self.state}"
