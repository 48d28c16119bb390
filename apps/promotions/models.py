"""Flash sales and coupon templates in `promotions`; what is sold and held of them on each shard; transfers."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.promotions.domain import CouponKind, SaleMode, SaleState
from apps.promotions.points.models import PointsBalance, PointsEntry, PointsLot  # noqa: F401 - Django finds them here
from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.models import ShardedModel
from infra.sharding.placement import SHARDS

SKU_MAX_LENGTH = 64


class FlashSale(models.Model):
    """A sale: when, how, and where the staff have brought it. `version` is raised by one with every change.

    A sale with an `approval_reason` sells only once somebody has approved it who is not among `shaped_by`, those whose
    figures nobody has approved (ids of staff accounts, which are in `default`; 0 is the console).
    A rehearsal is seen and sold to its `testers` (user ids) alone, and its orders are taken back when it ends.

    `closed_at` is set once all allotments are closed and nothing is on its way: from then on no unit is the sale's.
    Long after that its rows elsewhere are cleared, between `purging_since` and `purged_at`; this one stays.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=120)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    mode = AsciiField(max_length=8, choices=[(mode.value, mode.value) for mode in SaleMode])
    token_required = models.BooleanField(default=False)
    rehearsal = models.BooleanField(default=False)
    testers = models.JSONField(default=list)
    state = AsciiField(max_length=12, choices=[(state.value, state.value) for state in SaleState])
    version = models.IntegerField(default=1)
    approval_reason = models.CharField(max_length=500, blank=True, default="")
    shaped_by = models.JSONField(default=list)
    approved_by = models.BigIntegerField(null=True, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    purging_since = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "promotions_sale"
        indexes = [
            models.Index(fields=["state", "starts_at"], name="promotions_sale_state"),
            models.Index(fields=["closed_at"], name="promotions_sale_closed"),
        ]
        permissions = [("approve_flashsale", "Can approve flash sales of others")]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="promotions_sale_times"),
            models.CheckConstraint(
                condition=Q(approval_reason="") | Q(approved_by__isnull=False) | ~Q(state__in=["scheduled", "running"]),
                name="promotions_sale_approved",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class FlashSaleItem(models.Model):
    """One SKU of a sale. The title is copied from the catalog, so that buying does not depend on it."""

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    id = models.BigAutoField(primary_key=True)
    sale = models.ForeignKey(FlashSale, on_delete=models.CASCADE, related_name="items")
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    title = models.CharField(max_length=255)
    price = models.DecimalField(max_digits=14, decimal_places=2)
    currency = AsciiField(max_length=3)
    quota = models.IntegerField()
    per_user_limit = models.IntegerField()

    class Meta:
        db_table = "promotions_item"
        constraints = [
            models.UniqueConstraint(fields=["sale", "sku"], name="promotions_item_once"),
            models.CheckConstraint(
                condition=Q(price__gt=0, quota__gt=0, per_user_limit__gt=0), name="promotions_item_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sku} of sale {self.sale_id}"


class SaleAnswer(models.Model):
    """How often buyers of a sale got an answer (`ordered`, `queued`, or the code of a refusal) within a class of time.

    `took_ms` is the upper bound of the class, 0 for answers that nobody waited for. Added up by all processes; kept
    with the sale.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    pk = models.CompositePrimaryKey("sale_id", "answer", "took_ms")
    sale_id = models.BigIntegerField()
    answer = AsciiField(max_length=40)
    took_ms = models.IntegerField()
    count = models.BigIntegerField()

    class Meta:
        db_table = "promotions_answer"

    def __str__(self) -> str:
        return f"{self.count} times {self.answer} in sale {self.sale_id}"


class BuyerBlock(models.Model):
    """A user or a network that may not buy in one sale, or in any (`sale_id` is NULL), until the block is lifted.

    Who blocked whom and why stays for good; `blocked_by` and `lifted_by` are staff accounts, which are in `default`.
    `in_force` says whom and where while the block is in force, and is NULL once it is lifted: unique, so that two of
    the staff who block the same buyer at once make one block.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    id = models.BigAutoField(primary_key=True)
    sale_id = models.BigIntegerField(null=True, blank=True)
    user_id = models.BigIntegerField(null=True, blank=True)
    network = AsciiField(max_length=43, blank=True, default="")
    reason = models.CharField(max_length=200)
    blocked_by = models.BigIntegerField()
    blocked_at = models.DateTimeField()
    lifted_by = models.BigIntegerField(null=True, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    in_force = AsciiField(max_length=90, null=True, unique=True)

    class Meta:
        db_table = "promotions_block"
        indexes = [models.Index(fields=["lifted_at"], name="promotions_block_lifted")]
        constraints = [
            models.CheckConstraint(
                condition=Q(user_id__isnull=False, network="") | (Q(user_id__isnull=True) & ~Q(network="")),
                name="promotions_block_of_one",
            )
        ]

    def __str__(self) -> str:
        whom = self.network or f"user {self.user_id}"
        return f"{whom} in {'all sales' if self.sale_id is None else f'sale {self.sale_id}'}"


class CouponTemplate(models.Model):
    """What is given out as coupons: terms that never change once they are made, and bounds that the staff may move.

    `claimed_count` counts its claims; the guarded UPDATE that raises it, and behind it the CHECK, keep the total limit.
    A template that is not listed is given out by the staff only; one that is not active is neither claimed nor used.
    Long after its end its claims are cleared, and `purged_at` tells.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=120)
    kind = AsciiField(max_length=16, choices=[(kind.value, kind.value) for kind in CouponKind])
    currency = AsciiField(max_length=3)
    amount = models.DecimalField(max_digits=14, decimal_places=2, default=0)
    percent = models.DecimalField(max_digits=5, decimal_places=2, default=0)
    max_discount = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    threshold = models.DecimalField(max_digits=14, decimal_places=2, default=0)
    categories = models.JSONField(default=list, blank=True)
    products = models.JSONField(default=list, blank=True)
    skus = models.JSONField(default=list, blank=True)
    stackable = models.BooleanField(default=False)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    valid_days = models.SmallIntegerField(null=True, blank=True)
    total_limit = models.IntegerField(null=True, blank=True)
    per_user_limit = models.SmallIntegerField(default=1)
    is_listed = models.BooleanField(default=True)
    is_active = models.BooleanField(default=True)
    claimed_count = models.IntegerField(default=0)
    updated_by = models.CharField(max_length=150, editable=False, default="")
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    purged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "promotions_coupon_template"
        verbose_name = "coupon template"
        indexes = [
            models.Index(fields=["is_active", "is_listed", "ends_at"], name="promotions_coupon_listed"),
            models.Index(fields=["purged_at", "ends_at"], name="promotions_coupon_over"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(claimed_count__lte=F("total_limit")), name="coupon_within_total"),
            models.CheckConstraint(
                condition=Q(claimed_count__gte=0, per_user_limit__gt=0), name="coupon_counts_not_negative"
            ),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="coupon_times"),
            models.CheckConstraint(
                condition=Q(kind=CouponKind.AMOUNT.value, amount__gt=0)
                | Q(kind=CouponKind.PERCENT.value, percent__gt=0, percent__lte=100)
                | Q(kind=CouponKind.FREE_SHIPPING.value),
                name="coupon_takes_something_off",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class CouponClaimState(models.IntegerChoices):
    """Whether the coupon of a claim is known to be on its user's shard."""

    PENDING = 1, "pending"
    DONE = 2, "done"


class CouponClaim(models.Model):
    """One coupon of a template that a user has, or is getting; its id is the coupon's.

    The user's `n`-th of the template: the unique key, with `n` up to the limit, lets nobody have more. A pending claim
    ends when its coupon is written, before `deadline_at`; after that it is settled by what is on the shard. While it is
    pending it carries the request's digest, so that a repeat finds it.
    """

    databases: ClassVar[tuple[str, ...]] = ("promotions",)

    id = models.BigIntegerField(primary_key=True)
    template_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    n = models.SmallIntegerField()
    state = models.SmallIntegerField(choices=CouponClaimState.choices)
    request_digest = DigestField(32, null=True)
    granted_by = models.CharField(max_length=150, default="")
    reason = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField()
    deadline_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_coupon_claim"
        indexes = [models.Index(fields=["state", "deadline_at"], name="promotions_claim_pending")]
        constraints = [
            models.UniqueConstraint(fields=["template_id", "user_id", "n"], name="promotions_claim_once"),
            models.UniqueConstraint(fields=["user_id", "request_digest"], name="promotions_claim_request"),
        ]

    def __str__(self) -> str:
        return f"claim of coupon {self.id}"


class HeldCouponState(models.IntegerChoices):
    """What has become of a coupon. VOID keeps the id of a claim that was given back from ever becoming one."""

    HELD = 1, "held"
    REDEEMED = 2, "redeemed"
    VOID = 3, "void"


class HeldCouponRow(ShardedModel):
    """A coupon of a user. Redeemed, it says for which order, and how much it took off there."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "user_id", "id")
    user_id = models.BigIntegerField()
    id = models.BigIntegerField()
    template_id = models.BigIntegerField()
    state = models.SmallIntegerField(choices=HeldCouponState.choices)
    order_id = models.BigIntegerField(null=True)
    discount = models.DecimalField(max_digits=16, decimal_places=4, default=0)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_coupon"
        indexes = [models.Index(fields=["expires_at"], name="promotions_coupon_expiry")]
        constraints = [
            models.CheckConstraint(
                condition=Q(state=HeldCouponState.REDEEMED, order_id__isnull=False)
                | (~Q(state=HeldCouponState.REDEEMED) & Q(order_id__isnull=True)),
                name="coupon_redeemed_for_one_order",
            )
        ]

    def __str__(self) -> str:
        return f"coupon {self.id} of user {self.user_id}"


class AllotmentRow(models.Model):
    """What this shard may sell of an item. One row an item and shard: it belongs to the shard, not to a slot.

    `settled` of the `sold` units were paid for and have left the stock. A closed allotment sells nothing, and its
    quota is what it has sold. Every write is relative, guarded and raises `version`.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("sale_id", "sku")
    sale_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    quota = models.IntegerField()
    sold = models.IntegerField(default=0)
    settled = models.IntegerField(default=0)
    closed = models.BooleanField(default=False)
    version = models.BigIntegerField(default=1)

    class Meta:
        db_table = "promotions_allotment"
        constraints = [
            models.CheckConstraint(condition=Q(sold__lte=F("quota")), name="allotment_no_oversell"),
            models.CheckConstraint(condition=Q(settled__gte=0, settled__lte=F("sold")), name="allotment_settled"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} of sale {self.sale_id}: {self.sold} of {self.quota}"


class Purchase(ShardedModel):
    """How many units of an item a user has, paid for or not; the key is the promise that nobody gets more."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "sale_id", "sku", "user_id")
    sale_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    user_id = models.BigIntegerField()
    bought = models.IntegerField()

    class Meta:
        db_table = "promotions_purchase"
        indexes = [models.Index(fields=["sale_id"], name="promotions_purchase_sale")]
        constraints = [models.CheckConstraint(condition=Q(bought__gte=0), name="purchase_not_negative")]

    def __str__(self) -> str:
        return f"{self.bought} {self.sku} of sale {self.sale_id} for user {self.user_id}"


class ClaimState(models.IntegerChoices):
    """What has become of the units of an order. HELD ends in RETURNED, or by way of SETTLING in SETTLED.

    SETTLING says that the units are to leave the stock, SETTLED that they have.
    """

    HELD = 1, "held"
    SETTLING = 2, "settling"
    SETTLED = 3, "settled"
    RETURNED = 4, "returned"


class Claim(ShardedModel):
    """The units that one order took from a sale, written with the order."""

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "order_id")
    order_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    sale_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    quantity = models.IntegerField()
    state = models.SmallIntegerField(choices=ClaimState.choices)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_claim"
        indexes = [models.Index(fields=["sale_id", "state"], name="promotions_claim_sale")]
        constraints = [models.CheckConstraint(condition=Q(quantity__gt=0), name="claim_quantity_positive")]

    def __str__(self) -> str:
        return f"{self.quantity} {self.sku} of sale {self.sale_id} for order {self.order_id}"


class TicketOutcome(ShardedModel):
    """How a ticket of a queued sale ended: an order, or a refusal with its code. The key lets it end once.

    Whoever comes first writes the row: the drain, in the order's transaction; or the drain or a poll, as a refusal.
    `issued_ms` is the ticket's, so that the same ticket can be made again for a repeat. Rows are kept 7 days.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "user_id", "digest")
    user_id = models.BigIntegerField()
    digest = DigestField(32)
    sale_id = models.BigIntegerField()
    issued_ms = models.BigIntegerField()
    order_id = models.BigIntegerField(null=True)
    code = AsciiField(max_length=40, default="")
    ended_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_ticket"
        indexes = [models.Index(fields=["ended_at"], name="promotions_ticket_ended")]

    def __str__(self) -> str:
        return f"ticket of user {self.user_id} in sale {self.sale_id}: {self.order_id or self.code}"


class TransferState(models.IntegerChoices):
    """Whether the debtor knows that the creditor has the units."""

    OPEN = 1, "open"
    DONE = 2, "done"


class TransferRow(models.Model):
    """Units that this database has given up, written in the transaction that took them from its counter."""

    databases: ClassVar[tuple[str, ...]] = ("inventory", SHARDS)

    id = models.BigIntegerField(primary_key=True)
    sale_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    quantity = models.IntegerField()
    creditor = AsciiField(max_length=32)
    state = models.SmallIntegerField(choices=TransferState.choices)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_transfer"
        indexes = [
            models.Index(fields=["state", "created_at"], name="promotions_transfer_state"),
            models.Index(fields=["sale_id", "sku"], name="promotions_transfer_item"),
        ]
        constraints = [models.CheckConstraint(condition=Q(quantity__gt=0), name="transfer_quantity_positive")]

    def __str__(self) -> str:
        return f"transfer {self.id}: {self.quantity} {self.sku} to {self.creditor}"


class TransferReceipt(models.Model):
    """Units that this database was given, in the transaction that added them; the key lets each transfer in once."""

    databases: ClassVar[tuple[str, ...]] = ("inventory", SHARDS)

    id = models.BigIntegerField(primary_key=True)
    sale_id = models.BigIntegerField()
    sku = AsciiField(max_length=SKU_MAX_LENGTH)
    quantity = models.IntegerField()
    received_at = models.DateTimeField()

    class Meta:
        db_table = "promotions_receipt"
        indexes = [models.Index(fields=["sale_id", "sku"], name="promotions_receipt_item")]

    def __str__(self) -> str:
        return f"receipt of transfer {self.id}"
