"""Rows of payments: attempts and refunds in the month of their order, callbacks on its shard."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.payments.domain import AttemptStatus, CallbackResult, RefundStatus
from infra.sharding.fields import AsciiField
from infra.sharding.models import ShardedModel
from infra.sharding.monthly import MonthlyModel
from infra.sharding.placement import SHARDS

# Money is stored with the most decimals that an ISO 4217 currency has, and read with those of its own.
_MONEY_DIGITS = 16
_MONEY_DECIMALS = 4
_URL_LENGTH = 2000


class Attempt(MonthlyModel):
    """One attempt to pay an order; committed before the provider hears of it.

    `refund_claimed` sums the refunds that are under way or done; it is raised by a guarded UPDATE and never passes
    `captured_amount`. `unexpected` money was captured when the order was closed, paid already, or had a newer attempt:
    it is given back.
    """

    table: ClassVar[str] = "payments_attempt"
    rows_per_order: ClassVar[float] = 1.2

    pk = models.CompositePrimaryKey("slot", "order_id", "n")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    status = AsciiField(max_length=16, default=AttemptStatus.PENDING)
    provider = AsciiField(max_length=32)
    method = AsciiField(max_length=32, default="")
    amount = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    currency = AsciiField(max_length=3)
    captured_amount = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    refund_claimed = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    superseded = models.BooleanField(default=False)
    unexpected = models.BooleanField(default=False)
    redirect_url = models.CharField(max_length=_URL_LENGTH, default="")
    return_url = models.CharField(max_length=_URL_LENGTH, default="")
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(refund_claimed__gte=0) & Q(refund_claimed__lte=F("captured_amount")),
                name="%(class)s_refunds_within_capture",
            ),
        ]


class Refund(MonthlyModel):
    """Money on its way back, of one attempt; committed before the provider hears of it."""

    table: ClassVar[str] = "payments_refund"
    rows_per_order: ClassVar[float] = 0.2

    pk = models.CompositePrimaryKey("slot", "order_id", "n")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    attempt_n = models.SmallIntegerField()
    status = AsciiField(max_length=16, default=RefundStatus.APPROVED)
    amount = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    currency = AsciiField(max_length=3)
    reason = models.CharField(max_length=255, default="")
    items = models.JSONField(default=list)
    unexpected = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="%(class)s_above_zero")]


class Callback(ShardedModel):
    """A provider's delivery as it came; the primary key is what makes a repeat known.

    Kept for 90 days. `alert` marks what the staff have to look at.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "provider", "account", "event_id")
    provider = AsciiField(max_length=32)
    account = AsciiField(max_length=64)
    event_id = AsciiField(max_length=128)
    order_id = models.BigIntegerField()
    reference = AsciiField(max_length=64)
    raw_body = models.BinaryField()
    result = AsciiField(max_length=16, choices=[(word.value, word.value) for word in CallbackResult])
    alert = models.BooleanField(default=False)
    received_at = models.DateTimeField()

    class Meta:
        db_table = "payments_callback"
        indexes = [
            models.Index(fields=["received_at"], name="payments_callback_received"),
            models.Index(fields=["alert", "received_at"], name="payments_callback_alerts"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_id} about {self.reference}: {self.result}"
