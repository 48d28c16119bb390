"""Rows of payments: attempts and refunds in the month of their order, callbacks on its shard."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.payments.domain import (
    AttemptStatus,
    CallbackResult,
    DifferenceKind,
    DifferenceState,
    RefundStatus,
)
from infra.sharding.fields import AsciiField
from infra.sharding.models import ShardedModel
from infra.sharding.monthly import MonthlyModel
from infra.sharding.placement import SHARDS
from infra.sharding.schema_changes import AddColumn, AddIndex, SchemaChange

# Money is stored with the most decimals that an ISO 4217 currency has, and read with those of its own.
_MONEY_DIGITS = 16
_MONEY_DECIMALS = 4
_URL_LENGTH = 2000


def _flag() -> models.BooleanField:
    return models.BooleanField(default=False, db_default=False)


def _provider_id() -> AsciiField:
    return AsciiField(max_length=128, default="", db_default="")


class Attempt(MonthlyModel):
    """One attempt to pay an order; committed before the provider hears of it.

    `refund_claimed` sums the refunds that are under way or done; it is raised by a guarded UPDATE and never passes
    `captured_amount`. `unexpected` money was captured when the order was closed, paid already, or had a newer attempt:
    it is given back.
    `capture_owed`: the money that is held (`authorized`) is to be captured, and the provider is asked to until it is.
    `settled_on` is the day in whose settlement file the provider told of it.
    `provider_id` is its name at a provider that does not go by our reference.
    """

    table: ClassVar[str] = "payments_attempt"
    rows_per_order: ClassVar[float] = 1.2
    schema_changes: ClassVar[tuple[SchemaChange, ...]] = (
        AddColumn("capture_owed", _flag()),
        AddColumn("captured_at", models.DateTimeField(null=True)),
        AddColumn("settled_on", models.DateField(null=True)),
        AddIndex("payments_attempt_captured", ("captured_at",)),
        AddColumn("provider_id", _provider_id()),
    )

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
    capture_owed = _flag()
    captured_at = models.DateTimeField(null=True)
    settled_on = models.DateField(null=True)
    provider_id = _provider_id()
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
        indexes = [models.Index(fields=["captured_at"], name="payments_attempt_captured")]


def _tries() -> models.SmallIntegerField:
    return models.SmallIntegerField(default=1, db_default=1)


def _actor() -> AsciiField:
    return AsciiField(max_length=64, default="", db_default="")


def _why() -> models.CharField:
    return models.CharField(max_length=255, default="", db_default="")


class Refund(MonthlyModel):
    """Money on its way back, of one attempt; committed before the provider hears of it.

    `tries` counts how often the provider is asked, each time under a reference of its own. `returns_stock`: its units
    stay here and go back into stock. `outside`: the provider could not do it, and the staff paid by another way.
    `decided_by` and `decision` are the member of staff who decided last, and why.
    `ended_at` is when the money was back, `settled_on` the day in whose settlement file the provider told of it.
    """

    table: ClassVar[str] = "payments_refund"
    rows_per_order: ClassVar[float] = 0.2
    schema_changes: ClassVar[tuple[SchemaChange, ...]] = (
        AddColumn("tries", _tries()),
        AddColumn("returns_stock", _flag()),
        AddColumn("outside", _flag()),
        AddColumn("decided_by", _actor()),
        AddColumn("decision", _why()),
        AddIndex("payments_refund_status", ("status", "order_id")),
        AddColumn("ended_at", models.DateTimeField(null=True)),
        AddColumn("settled_on", models.DateField(null=True)),
        AddIndex("payments_refund_ended", ("ended_at",)),
    )

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
    tries = _tries()
    returns_stock = _flag()
    outside = _flag()
    decided_by = _actor()
    decision = _why()
    ended_at = models.DateTimeField(null=True)
    settled_on = models.DateField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        indexes = [
            models.Index(fields=["status", "order_id"], name="payments_refund_status"),
            models.Index(fields=["ended_at"], name="payments_refund_ended"),
        ]
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
        permissions = [
            ("decide_refund", "Can approve, reject and retry refunds"),
            ("capture_payment", "Can capture authorized payments"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_id} about {self.reference}: {self.result}"


class SettlementRun(models.Model):
    """One day of one provider, compared with the ledger; `lines_done` is where a run that was cut off goes on."""

    databases: ClassVar[tuple[str, ...]] = ("default",)

    provider = AsciiField(max_length=32)
    day = models.DateField()
    lines_done = models.BigIntegerField(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "payments_settlement_run"
        constraints = [models.UniqueConstraint(fields=["provider", "day"], name="settlement_run_once")]

    def __str__(self) -> str:
        return f"{self.provider} {self.day}"


class Difference(models.Model):
    """Something on which a provider's settlement file and the ledger do not agree; kept for good.

    `ours` and `theirs` say what each has. `since` is when the money moved, by whoever says that it did.
    """

    databases: ClassVar[tuple[str, ...]] = ("default",)

    provider = AsciiField(max_length=32)
    day = models.DateField()
    kind = AsciiField(max_length=16, choices=[(kind.value, kind.value) for kind in DifferenceKind])
    reference = AsciiField(max_length=64)
    ours = models.CharField(max_length=100, default="")
    theirs = models.CharField(max_length=100, default="")
    since = models.DateTimeField()
    state = AsciiField(
        max_length=8, choices=[(state.value, state.value) for state in DifferenceState], default=DifferenceState.OPEN
    )
    resolution = models.CharField(max_length=255, default="")
    resolved_by = AsciiField(max_length=64, default="")
    found_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "payments_difference"
        constraints = [
            models.UniqueConstraint(fields=["provider", "reference", "kind"], name="payments_difference_once")
        ]
        indexes = [models.Index(fields=["state", "since"], name="payments_difference_open")]
        permissions = [("resolve_difference", "Can resolve differences of settlements")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference} at {self.provider}"
