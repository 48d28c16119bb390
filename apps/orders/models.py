"""Rows of an order, on its user's shard: monthly ones, keyed (slot, order id, ...), and what the staff keep beside."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.orders.domain import Closure, FulfillmentStatus, OrderStatus, PaymentStatus
from apps.orders.fulfillment import ReturnStatus, ShipmentStatus
from infra.crypto.fields import EncryptedJSONField, EncryptedTextField
from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.models import ShardedModel
from infra.sharding.monthly import MonthlyModel
from infra.sharding.placement import SHARDS
from infra.sharding.schema_changes import AddColumn, SchemaChange

# Money is stored with the most decimals that an ISO 4217 currency has, and read with those of its own.
_MONEY_DIGITS = 16
_MONEY_DECIMALS = 4


class OrderKind(models.IntegerChoices):
    """Whether the row is an order, or only keeps its id from ever becoming one."""

    REAL = 0
    VOID = 1


class Order(MonthlyModel):
    """An order, or the tombstone of an id whose stock was given back (`kind` VOID; never shown).

    `status` follows from the four facts before it (`domain.status_of`) and is stored for lists and scans. `version`
    is raised by one with every change to any row of the order. `placed_at` is the id's time.
    """

    table: ClassVar[str] = "orders_order"
    rows_per_order: ClassVar[float] = 1.05

    pk = models.CompositePrimaryKey("slot", "id")
    id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    kind = models.SmallIntegerField(choices=OrderKind.choices, default=OrderKind.REAL)
    version = models.IntegerField(default=1)
    payment_status = AsciiField(max_length=20, default=PaymentStatus.UNPAID)
    fulfillment_status = AsciiField(max_length=12, default=FulfillmentStatus.NONE)
    closed_as = AsciiField(max_length=12, default=Closure.OPEN)
    refunding = models.BooleanField(default=False)
    status = AsciiField(max_length=16, default=OrderStatus.PENDING_PAYMENT)
    currency = AsciiField(max_length=3)
    subtotal = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    discount = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    points_used = models.IntegerField(default=0)
    points_value = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    shipping_fee = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    total = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    refunded_total = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0)
    address = EncryptedJSONField(null=True)
    city = models.CharField(max_length=100, default="")
    country = AsciiField(max_length=2, default="")
    coupons = AsciiField(max_length=500, default="")
    note = EncryptedTextField(default="")
    cancel_reason = EncryptedTextField(default="")
    request_digest = DigestField(32, default=b"")
    source = AsciiField(max_length=32, default="")
    source_number = AsciiField(max_length=64, default="")
    expires_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        indexes = [
            models.Index(fields=["user_id", "id"], name="orders_order_user"),
            models.Index(fields=["status", "expires_at"], name="orders_order_expiry"),
            models.Index(fields=["id"], name="orders_order_newest"),
        ]


def _line_share() -> models.DecimalField:
    return models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS, default=0, db_default=0)


def _line_count() -> models.IntegerField:
    return models.IntegerField(default=0, db_default=0)


class OrderLine(MonthlyModel):
    """One SKU of an order, with title and price as they were when it was placed.

    `discount` and `points_value` are its exact shares of the order's, so that what a part of it is worth is known to
    the cent (`domain.refund_amount`). The hot INSERT names them only where an order has either.
    `returned_quantity` counts the units that are in stock again, or owed to it, and so are not to be sent.
    """

    table: ClassVar[str] = "orders_line"
    rows_per_order: ClassVar[float] = 3.0
    schema_changes: ClassVar[tuple[SchemaChange, ...]] = (
        AddColumn("discount", _line_share()),
        AddColumn("points_value", _line_share()),
        AddColumn("returned_quantity", _line_count()),
    )

    pk = models.CompositePrimaryKey("slot", "order_id", "line")
    order_id = models.BigIntegerField()
    line = models.SmallIntegerField()
    sku = AsciiField(max_length=64)
    title = models.CharField(max_length=255)
    quantity = models.IntegerField()
    unit_price = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    line_total = models.DecimalField(max_digits=_MONEY_DIGITS, decimal_places=_MONEY_DECIMALS)
    refunded_quantity = models.IntegerField(default=0)
    discount = _line_share()
    points_value = _line_share()
    returned_quantity = _line_count()

    class Meta(MonthlyModel.Meta):
        abstract = True


class OrderEvent(MonthlyModel):
    """One step in an order's life: exactly one for each version."""

    table: ClassVar[str] = "orders_event"
    rows_per_order: ClassVar[float] = 6.0

    pk = models.CompositePrimaryKey("slot", "order_id", "version")
    order_id = models.BigIntegerField()
    version = models.IntegerField()
    kind = AsciiField(max_length=32)
    at = models.DateTimeField()
    actor = AsciiField(max_length=64)
    detail = models.CharField(max_length=255, default="")

    class Meta(MonthlyModel.Meta):
        abstract = True


class Shipment(MonthlyModel):
    """Goods of an order on their way to its buyer, or being packed for it.

    `carrier` is a name of the registry (`carriers`), whose own word about the shipment comes by track events, or any
    other carrier's, of which the staff tell. `handed_over_at` and `delivered_at` are by our clock.
    """

    table: ClassVar[str] = "orders_shipment"
    rows_per_order: ClassVar[float] = 1.2

    pk = models.CompositePrimaryKey("slot", "order_id", "n")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    status = AsciiField(max_length=16, default=ShipmentStatus.PREPARED)
    carrier = AsciiField(max_length=32, default="")
    number = AsciiField(max_length=64, default="")
    handed_over_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        indexes = [
            # What has been under way for long is completed.
            models.Index(fields=["status", "handed_over_at"], name="orders_shipment_under_way"),
            models.Index(fields=["number"], name="orders_shipment_number"),
        ]


class ShipmentLine(MonthlyModel):
    """Units of one line of the order in one shipment."""

    table: ClassVar[str] = "orders_shipment_line"
    rows_per_order: ClassVar[float] = 3.2

    pk = models.CompositePrimaryKey("slot", "order_id", "n", "line")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    line = models.SmallIntegerField()
    sku = AsciiField(max_length=64)
    quantity = models.IntegerField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        constraints = [models.CheckConstraint(condition=Q(quantity__gt=0), name="%(class)s_above_zero")]


class Track(MonthlyModel):
    """What a carrier told of a shipment; the primary key is what makes a repeat known.

    `at` is by the carrier's clock, `received_at` by ours.
    """

    table: ClassVar[str] = "orders_track"
    rows_per_order: ClassVar[float] = 5.0

    pk = models.CompositePrimaryKey("slot", "order_id", "n", "event_id")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    event_id = AsciiField(max_length=128)
    status = AsciiField(max_length=16)
    place = models.CharField(max_length=100, default="")
    at = models.DateTimeField()
    received_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True


class Return(MonthlyModel):
    """Units that a buyer wants to send back, has been told to, or has sent back.

    `refund_n` is the refund that was made when they came, None where there was none. `note` is what the staff tell the
    buyer.
    """

    table: ClassVar[str] = "orders_return"
    rows_per_order: ClassVar[float] = 0.1

    pk = models.CompositePrimaryKey("slot", "order_id", "n")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    status = AsciiField(max_length=16, default=ReturnStatus.REQUESTED)
    reason = EncryptedTextField(default="")
    note = EncryptedTextField(default="")
    refund_n = models.SmallIntegerField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(MonthlyModel.Meta):
        abstract = True
        indexes = [models.Index(fields=["status", "order_id"], name="orders_return_status")]


class ReturnLine(MonthlyModel):
    """Units of one line of the order in one return: announced, counted when they came, and fit for the stock again."""

    table: ClassVar[str] = "orders_return_line"
    rows_per_order: ClassVar[float] = 0.2

    pk = models.CompositePrimaryKey("slot", "order_id", "n", "line")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    line = models.SmallIntegerField()
    sku = AsciiField(max_length=64)
    quantity = models.IntegerField()
    received_quantity = models.IntegerField(default=0)
    restocked_quantity = models.IntegerField(default=0)

    class Meta(MonthlyModel.Meta):
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity__gt=0)
                & Q(received_quantity__gte=0)
                & Q(received_quantity__lte=F("quantity"))
                & Q(restocked_quantity__gte=0)
                & Q(restocked_quantity__lte=F("received_quantity")),
                name="%(class)s_counted_within",
            )
        ]


class OrderWork(models.Model):
    """Stands for orders where Django wants a model that it knows (rights of the staff, their log). It has no table."""

    databases: ClassVar[tuple[str, ...]] = ("default",)

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("ship_order", "Can ship orders"),
            ("receive_return", "Can decide on returns and receive them"),
        ]
        verbose_name = "order"

    def __str__(self) -> str:
        return "order"


class OrderNote(ShardedModel):
    """What the staff have written down about an order, for themselves: no part of the order, no shopper sees it.

    Rows of notes, tags and holds are rare beside orders, hence few partitions and no months; they are kept as long as
    their order.
    """

    pk = models.CompositePrimaryKey("slot", "order_id", "n")
    order_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    text = EncryptedTextField()
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        db_table = "orders_note"
        default_permissions = ()


class OrderTag(ShardedModel):
    """A word that the staff have put on an order, to find it again among others."""

    pk = models.CompositePrimaryKey("slot", "order_id", "tag")
    order_id = models.BigIntegerField()
    tag = models.CharField(max_length=32)
    staff_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        db_table = "orders_tag"
        default_permissions = ()
        indexes = [models.Index(fields=["tag", "order_id"], name="orders_tag_tag")]


class OrderHold(ShardedModel):
    """An order that the staff hold back while they look into it; gone when it is let go.

    `services.holds.require_not_held` says what it stops. The permissions are those of all the staff's pages of orders.
    """

    pk = models.CompositePrimaryKey("slot", "order_id")
    order_id = models.BigIntegerField()
    reason = EncryptedTextField()
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        db_table = "orders_hold"
        default_permissions = ()
        indexes = [models.Index(fields=["at"], name="orders_hold_at")]
        permissions = [
            ("view_order", "Can see orders, persons masked"),
            ("note_order", "Can write notes and tags on orders"),
            ("cancel_order", "Can cancel orders, with refund where paid"),
            ("correct_address", "Can correct the address of an order before it is shipped"),
            ("hold_order", "Can hold orders back and let them go"),
            ("unmask_person", "Can see whom an order or account belongs to"),
            ("export_orders", "Can export orders"),
            ("bulk_orders", "Can change many orders at once"),
            ("approve_order_action", "Can agree to what somebody else asked to do to an order"),
            ("view_figures", "Can see figures of the whole shop"),
            ("view_queues", "Can see the work queues"),
            ("work_payment_queues", "Can work on queues of payments"),
            ("work_event_queues", "Can work on queues of events"),
        ]


class PlacedAddress(ShardedModel):
    """The address that an order was placed with, once it was corrected: a late repeat gets its first answer."""

    pk = models.CompositePrimaryKey("slot", "order_id")
    order_id = models.BigIntegerField()
    address = EncryptedJSONField()
    at = models.DateTimeField()

    class Meta:
        db_table = "orders_placed_address"
        default_permissions = ()


class OrderFigure(models.Model):
    """What one hour brought on this shard: how many events of a kind, and which money they moved, by currency.

    Summed up from the outbox (`services.figures`); kept for charts, no account of anything.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("hour", "kind", "currency")
    hour = models.DateTimeField()
    kind = AsciiField(max_length=32)
    currency = AsciiField(max_length=3)
    count = models.BigIntegerField(default=0)
    amount = models.DecimalField(max_digits=20, decimal_places=_MONEY_DECIMALS, default=0)

    class Meta:
        db_table = "orders_figure"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.count} {self.kind} at {self.hour}"


class FigureMark(models.Model):
    """Up to which row of this shard's outbox the figures have been summed up; one row."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    id = models.SmallIntegerField(primary_key=True)
    outbox_id = models.BigIntegerField()

    class Meta:
        db_table = "orders_figure_mark"
        default_permissions = ()

    def __str__(self) -> str:
        return f"figures up to {self.outbox_id}"
