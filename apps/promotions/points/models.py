"""Rows of points, all on their user's shard: the balance, the lots that it is made of, and the ledger."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from infra.sharding.fields import AsciiField
from infra.sharding.models import ShardedModel
from infra.sharding.monthly import MonthlyModel
from infra.sharding.placement import SHARDS


class PointsBalance(ShardedModel):
    """What a user can spend, and owes. Its row is the lock of all the user's points.

    Every write is relative, guarded and raises `version`.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "user_id")
    user_id = models.BigIntegerField()
    balance = models.BigIntegerField(default=0)
    owed = models.BigIntegerField(default=0)
    version = models.BigIntegerField(default=1)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_points_balance"
        constraints = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="points_balance_not_negative"),
            models.CheckConstraint(condition=Q(owed__gte=0), name="points_owed_not_negative"),
        ]

    def __str__(self) -> str:
        return f"user {self.user_id} has {self.balance} points, owes {self.owed}"


class PointsLot(ShardedModel):
    """Points of a user that expire together; deleted by the sweep that expires what remains of it."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "user_id", "expires_on")
    user_id = models.BigIntegerField()
    expires_on = models.DateField()
    remaining = models.BigIntegerField()

    class Meta:
        db_table = "promotions_points_lot"
        indexes = [models.Index(fields=["expires_on"], name="promotions_points_lot_expiry")]
        constraints = [models.CheckConstraint(condition=Q(remaining__gte=0), name="points_lot_not_negative")]

    def __str__(self) -> str:
        return f"{self.remaining} points of user {self.user_id} until {self.expires_on}"


class PointsEntry(MonthlyModel):
    """Points that left the account `debit` for the account `credit`: one row is both sides, so each sums to zero.

    (id, kind, n) is the reference of one movement, which may have several `line`s: it lets each in once, for good.
    `id` is the order's, or one of its own for a movement of no order; as with all rows of an order, it tells the month
    of the row, whenever that is written. `n` is the refund's number where a refund caused it. `lot` is the day on which
    the points that came to or left the balance expire.
    """

    table: ClassVar[str] = "promotions_points_entry"
    rows_per_order: ClassVar[float] = 2.5

    pk = models.CompositePrimaryKey("slot", "id", "kind", "n", "line")
    id = models.BigIntegerField()
    kind = AsciiField(max_length=12)
    n = models.SmallIntegerField(default=0)
    line = models.SmallIntegerField(default=1)
    user_id = models.BigIntegerField()
    debit = AsciiField(max_length=12)
    credit = AsciiField(max_length=12)
    points = models.BigIntegerField()
    lot = models.DateField(null=True)
    at = models.DateTimeField()
    actor = AsciiField(max_length=64)
    reason = models.CharField(max_length=200, default="")

    class Meta(MonthlyModel.Meta):
        abstract = True
        indexes = [models.Index(fields=["user_id", "at"], name="promotions_points_of_user")]
        constraints = [
            models.CheckConstraint(condition=Q(points__gt=0), name="%(class)s_above_zero"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="%(class)s_moves"),
        ]
