"""Stock counters, the reservations against them, and what moved them; all in the alias of their SKU's place."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.inventory.domain import Strategy
from infra.sharding.fields import AsciiField, DigestField

SKU_MAX_LENGTH = 64


class Stock(models.Model):
    """How much there is of a SKU, and how much of that is spoken for.

    What can still be bought is `on_hand - reserved - allotted`. The counters are signed, since unsigned ones raise
    error 1690 when a difference is negative. Every write is relative, guarded and raises `version`, whoever makes it.
    """

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    sku = AsciiField(max_length=SKU_MAX_LENGTH, primary_key=True)
    on_hand = models.IntegerField(help_text="Units in the warehouse.")
    reserved = models.IntegerField(default=0, help_text="Units that open reservations hold.")
    allotted = models.IntegerField(default=0, help_text="Units set aside for flash sales.")
    version = models.BigIntegerField(default=1)

    class Meta:
        db_table = "inventory_stock"
        verbose_name_plural = "stock"
        constraints = [
            models.CheckConstraint(condition=Q(on_hand__gte=F("reserved") + F("allotted")), name="stock_no_oversell"),
            models.CheckConstraint(condition=Q(reserved__gte=0, allotted__gte=0), name="stock_not_negative"),
        ]

    def __str__(self) -> str:
        return self.sku

    @property
    def available(self) -> int:
        """Units that can still be bought."""
        return self.on_hand - self.reserved - self.allotted


class SkuStrategy(models.Model):
    """The strategy of a SKU whose stock the staff have claimed otherwise than `merged`, which has no row.

    Few rows: every process reads all of them every other second.
    """

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    sku = AsciiField(max_length=SKU_MAX_LENGTH, primary_key=True)
    strategy = AsciiField(max_length=16, choices=[(strategy.value, strategy.value) for strategy in Strategy])
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "inventory_sku_strategy"
        verbose_name = "strategy of a SKU"
        verbose_name_plural = "strategies of SKUs"

    def __str__(self) -> str:
        return f"{self.sku} {self.strategy}"


class StrategyChange(models.Model):
    """One choice of the staff: who claimed the stock of a SKU otherwise from then on, and why; only ever added."""

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    id = models.BigAutoField(primary_key=True)
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    before = AsciiField(max_length=16)
    after = AsciiField(max_length=16)
    reason = models.CharField(max_length=200)
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        db_table = "inventory_strategy_change"
        indexes = [models.Index(fields=["sku", "at"], name="strategy_change_sku_at")]

    def __str__(self) -> str:
        return f"{self.sku} {self.before} -> {self.after}"


class ReservationState(models.IntegerChoices):
    """Where a reservation is; it only ever moves down this list, and nothing revives it."""

    HELD = 1, "held"
    CONFIRMED = 2, "confirmed"
    SETTLED = 3, "settled"
    RESTOCKED = 4, "restocked"
    RELEASED = 5, "released"


class Reservation(models.Model):
    """Units of one SKU that one order holds.

    `slot` is the order's slot. All rows of an order are in the same state. `returned` of the units have come back by
    themselves after they were deducted. `user_id` and `request_digest` (method,
    path and idempotency key) let a repeat of a lost request find what its first try holds. Released and restocked
    rows are kept for a day, settled ones for as long as `INVENTORY_SETTLED_RETENTION_DAYS` says.
    """

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    pk = models.CompositePrimaryKey("slot", "order_id", "sku")
    slot = models.SmallIntegerField()
    order_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    quantity = models.IntegerField()
    returned = models.IntegerField(default=0, db_default=0)
    state = models.SmallIntegerField(choices=ReservationState.choices)
    user_id = models.BigIntegerField()
    request_digest = DigestField(32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "inventory_reservation"
        indexes = [
            # A held row was never updated: this is also the order of age of the holds that the reaper reads.
            models.Index(fields=["state", "updated_at"], name="reservation_state_age"),
            models.Index(fields=["user_id", "request_digest"], name="reservation_request"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="reservation_quantity_positive"),
            models.CheckConstraint(
                condition=Q(returned__gte=0) & Q(returned__lte=F("quantity")), name="reservation_returned_within"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.sku}"


class MovementKind(models.TextChoices):
    """Why the units on hand changed."""

    OPENING = "opening", "opening stock"
    ADJUSTMENT = "adjustment", "adjusted by the staff"
    DEDUCTION = "deduction", "left for a paid order"
    RESTOCK = "restock", "came back from an order"


class Movement(models.Model):
    """One change of the units on hand; only ever added, and kept for `INVENTORY_MOVEMENT_RETENTION_DAYS`."""

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    id = models.BigAutoField(primary_key=True)
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    kind = AsciiField(max_length=16, choices=MovementKind.choices)
    quantity = models.IntegerField(help_text="Signed change of the units on hand.")
    reason = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=150, help_text="A staff account, or the part of the system that did it.")
    order_id = models.BigIntegerField(null=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "inventory_movement"
        indexes = [
            models.Index(fields=["sku", "at"], name="movement_sku_at"),
            models.Index(fields=["at"], name="movement_at"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.quantity:+d} {self.kind}"


class Restocking(models.Model):
    """Units of one SKU that came back into stock under a reference; the primary key is what makes it once.

    Kept as long as movements; what owes it is done long before.
    """

    databases: ClassVar[tuple[str, ...]] = ("inventory",)

    pk = models.CompositePrimaryKey("reference", "sku")
    reference = AsciiField(max_length=64)
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    order_id = models.BigIntegerField()
    quantity = models.IntegerField()
    at = models.DateTimeField()

    class Meta:
        db_table = "inventory_restocking"
        indexes = [models.Index(fields=["at"], name="restocking_at")]
        constraints = [models.CheckConstraint(condition=Q(quantity__gt=0), name="restocking_quantity_positive")]

    def __str__(self) -> str:
        return f"{self.reference} {self.sku} {self.quantity}"
