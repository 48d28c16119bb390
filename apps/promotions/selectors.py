"""Reads of flash sales and coupons. What buyers ask comes from the worker's own cache; each says how old it may be."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import OperationalError
from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from apps.promotions import coupon_statements, statements
from apps.promotions.domain import LIVE_STATES, CouponKind, CouponState, SaleMode, SaleState
from apps.promotions.errors import CouponNotFound, SaleNotFound
from apps.promotions.models import (
    BuyerBlock,
    Claim,
    ClaimState,
    CouponTemplate,
    FlashSale,
    FlashSaleItem,
    HeldCouponRow,
    HeldCouponState,
    SaleAnswer,
    TransferReceipt,
    TransferRow,
    TransferState,
)
from apps.promotions.statements import PurchaseKey
from apps.promotions.types import (
    STOCK,
    Allotment,
    Answers,
    Block,
    CouponKey,
    CouponTerms,
    HeldCoupon,
    ItemKey,
    Moved,
    Sale,
    SaleClaim,
    SaleItem,
    Template,
    Transfer,
)
from infra.caching.l1 import L1Cache
from infra.sharding.places import place_of_user, shard_aliases

_ALIAS: Final = "promotions"
_LISTED: Final = "listed"


def find_sale(sale_id: int) -> Sale | None:
    """Return a sale, at most `FLASH_SALE_TTL_S` old; up to an hour older while `promotions` is away."""
    return _SALES.get(sale_id)


def get_sale(sale_id: int) -> Sale:
    """Return a sale as it is now; raises SaleNotFound."""
    sale = _load_sales([sale_id]).get(sale_id)
    if sale is None:
        raise SaleNotFound("There is no such sale.")
    return sale


def listed_sales() -> Sequence[Sale]:
    """Return the sales that shoppers see in the list, newest first, as old as `find_sale`'s."""
    return _LISTS.get(_LISTED) or ()


def live_sales() -> list[Sale]:
    """Return the sales that a sweeper has work with: all that are neither ended nor closed."""
    rows = FlashSale.objects.using(_ALIAS).filter(
        Q(state__in=(SaleState.DRAFT, *LIVE_STATES)) | Q(state=SaleState.CANCELLED, closed_at__isnull=True)
    )
    return list(_load_sales(rows.values_list("id", flat=True)).values())


def recent_sales(*, limit: int) -> list[Sale]:
    """Return the latest sales in whatever state, newest first, as they are now."""
    ids = FlashSale.objects.using(_ALIAS).order_by("-id").values_list("id", flat=True)[:limit]
    return sorted(_load_sales(list(ids)).values(), key=lambda sale: sale.id, reverse=True)


def answers_of(sale_id: int) -> Answers:
    """Return what buyers of a sale were answered, at most a few seconds old."""
    rows = SaleAnswer.objects.using(_ALIAS).filter(sale_id=sale_id).values_list("answer", "took_ms", "count")
    return Answers({(answer, took_ms): count for answer, took_ms, count in rows})


def moved_units(alias: str, sale_id: int, skus: Collection[str]) -> list[Moved]:
    """Return what a database (a shard, or one of stock's) has given up of the items of a sale, by creditor."""
    rows = (
        TransferRow.objects.using(alias)
        .filter(sale_id=sale_id, sku__in=list(skus))
        .values_list("sku", "creditor")
        .annotate(units=Sum("quantity"), open_units=Sum("quantity", filter=Q(state=TransferState.OPEN)))
    )
    debtor = alias if alias in shard_aliases() else STOCK
    return [Moved(sku, debtor, creditor, int(units), int(still or 0)) for sku, creditor, units, still in rows]


def received_units(alias: str, sale_id: int, skus: Collection[str]) -> dict[str, int]:
    """Return what a database was ever given of the items of a sale, by SKU."""
    rows = TransferReceipt.objects.using(alias).filter(sale_id=sale_id, sku__in=list(skus))
    return {sku: int(units) for sku, units in rows.values_list("sku").annotate(units=Sum("quantity"))}


def blocks(*, limit: int) -> list[Block]:
    """Return blocks of buyers, those that hold first, the latest first."""
    rows = BuyerBlock.objects.using(_ALIAS).order_by(F("lifted_at").desc(nulls_first=True), "-id")[:limit]
    return [
        Block(
            row.id,
            row.sale_id,
            row.user_id,
            row.network,
            row.reason,
            row.blocked_by,
            row.blocked_at,
            row.lifted_by,
            row.lifted_at,
        )
        for row in rows
    ]


def sales_between(start: datetime, end: datetime, *, limit: int) -> list[Sale]:
    """Return the sales in whatever state whose time touches that from `start` to `end`, by their start."""
    rows = FlashSale.objects.using(_ALIAS).filter(starts_at__lt=end, ends_at__gt=start).order_by("starts_at", "id")
    sales = _load_sales(list(rows.values_list("id", flat=True)[:limit]))
    return sorted(sales.values(), key=lambda sale: (sale.starts_at, sale.id))


def allotted_units(alias: str, sale_ids: Collection[int]) -> dict[ItemKey, int]:
    """Return the units that a database of stock has ever allotted to items of the sales."""
    rows = TransferRow.objects.using(alias).filter(sale_id__in=list(sale_ids))
    sums = rows.values_list("sale_id", "sku").annotate(units=Sum("quantity"))
    return {(sale_id, sku): int(units) for sale_id, sku, units in sums}


def claimed_units(alias: str, sale_id: int) -> dict[tuple[str, ClaimState], tuple[int, int]]:
    """Return orders and units of a sale on one shard by SKU and state of the claim."""
    rows = (
        Claim.objects.on_shard(alias)
        .filter(sale_id=sale_id)
        .values_list("sku", "state")
        .annotate(orders=Count("order_id"), units=Sum("quantity"))
    )
    return {(sku, ClaimState(state)): (orders, int(units)) for sku, state, orders, units in rows}


def allotments_of(alias: str, items: Collection[ItemKey]) -> dict[ItemKey, Allotment]:
    """Return what one shard may sell of the items, as it is now."""
    return statements.read_allotments(alias, items)


def open_transfers(alias: str, *, item: ItemKey | None = None, limit: int = 500) -> list[Transfer]:
    """Return the transfers that this debtor has not seen credited, oldest first."""
    rows = TransferRow.objects.using(alias).filter(state=TransferState.OPEN)
    if item is not None:
        rows = rows.filter(sale_id=item[0], sku=item[1])
    return [
        Transfer(id=row.id, alias=alias, creditor=row.creditor, sale_id=row.sale_id, sku=row.sku, quantity=row.quantity)
        for row in rows.order_by("created_at")[:limit]
    ]


def transferred_units(alias: str, item: ItemKey) -> int:
    """Return the units of the item that this database has ever given up, on their way or arrived."""
    rows = TransferRow.objects.using(alias).filter(sale_id=item[0], sku=item[1])
    return int(rows.aggregate(units=Sum("quantity"))["units"] or 0)


def bought_by(alias: str, keys: Collection[PurchaseKey]) -> dict[PurchaseKey, int]:
    """Return how many units of each item each buyer has, of those who ever bought; without locks."""
    return statements.read_bought(alias, keys)


def claims_of(alias: str, order_ids: Collection[int]) -> list[SaleClaim]:
    """Return what those of the orders of one shard took that took something from a sale."""
    return statements.read_claims(alias, order_ids)


def standing_claims(
    alias: str, sale_id: int, *, after: tuple[int, int] = (-1, 0), limit: int = 200
) -> list[tuple[int, SaleClaim]]:
    """Return a page of the sale's claims that were not given back, with their slots, ascending by slot and order."""
    slot, order_id = after
    rows = (
        Claim.objects.on_shard(alias)
        .filter(Q(slot__gt=slot) | Q(slot=slot, order_id__gt=order_id), sale_id=sale_id)
        .exclude(state=ClaimState.RETURNED)
        .order_by("slot", "order_id")[:limit]
    )
    return [
        (row.slot, SaleClaim(row.order_id, row.user_id, row.sale_id, row.sku, row.quantity, row.state)) for row in rows
    ]


def units_left(items: Collection[ItemKey]) -> dict[ItemKey, int]:
    """Return how many units of each item can be bought, on all shards in reach; as old as `find_sale`'s."""
    return _LEFT.get_many(items)


def forget_cached() -> None:
    """Empty this process's caches of sales, after a change that its own readers should see at once."""
    _SALES.clear()
    _LISTS.clear()
    _LEFT.clear()


def _load_sales(sale_ids: Collection[int]) -> dict[int, Sale]:
    items: dict[int, dict[str, SaleItem]] = {}
    for item in FlashSaleItem.objects.using(_ALIAS).filter(sale_id__in=list(sale_ids)).order_by("sku"):
        items.setdefault(item.sale_id, {})[item.sku] = SaleItem(
            item.sku, item.title, item.price, item.currency, item.quota, item.per_user_limit
        )
    rows = FlashSale.objects.using(_ALIAS).filter(id__in=items)
    return {row.id: _sale(row, items[row.id]) for row in rows}


def _sale(row: FlashSale, items: dict[str, SaleItem]) -> Sale:
    return Sale(
        id=row.id,
        name=row.name,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        mode=SaleMode(row.mode),
        token_required=row.token_required,
        state=SaleState(row.state),
        version=row.version,
        closed_at=row.closed_at,
        items=items,
        approval_reason=row.approval_reason,
        shaped_by=tuple(row.shaped_by),
        approved_by=row.approved_by,
        approved_at=row.approved_at,
        rehearsal=row.rehearsal,
        testers=frozenset(row.testers),
    )


def _load_lists(keys: Collection[str]) -> dict[str, Sequence[Sale]]:
    rows = FlashSale.objects.using(_ALIAS).filter(state__in=LIVE_STATES, rehearsal=False)
    ids = rows.order_by("-id").values_list("id", flat=True)
    sales = _load_sales(ids[: settings.FLASH_SALES_LISTED])
    return dict.fromkeys(keys, sorted(sales.values(), key=lambda sale: sale.id, reverse=True))


def _load_left(items: Collection[ItemKey]) -> dict[ItemKey, int]:
    left = dict.fromkeys(items, 0)
    for alias in shard_aliases():
        try:
            allotments = statements.read_allotments(alias, items)
        except OperationalError:
            continue  # its buyers cannot buy now either
        for item, allotment in allotments.items():
            left[item] += 0 if allotment.closed else allotment.unsold
    return left


def get_template(template_id: int) -> Template:
    """Return a coupon template as it is now; raises CouponNotFound."""
    template = _load_templates([template_id]).get(template_id)
    if template is None:
        raise CouponNotFound("There is no such coupon.")
    return template


def templates_of(template_ids: Collection[int]) -> dict[int, Template]:
    """Return templates, at most `COUPON_TEMPLATE_TTL_S` old; up to an hour older while `promotions` is away."""
    return _TEMPLATES.get_many(template_ids)


def claimable_templates(*, now: datetime) -> list[Template]:
    """Return what shoppers can claim now, newest first, as old as `templates_of`'s."""
    return [template for template in _TEMPLATE_LISTS.get(_LISTED) or () if template.is_claimable(now)]


def coupons_by_key(alias: str, keys: Collection[CouponKey]) -> dict[CouponKey, HeldCoupon]:
    """Return those of the coupons, each named by (user, coupon), that their users have; without locks."""
    return coupon_statements.read_coupons(alias, keys)


def usable_coupons(user_id: int, *, now: datetime, limit: int) -> list[HeldCoupon]:
    """Return coupons that a user could use now by their own state, those that end first at the front."""
    return coupon_statements.usable_coupons(place_of_user(user_id).alias, user_id, now=now, limit=limit)


def coupons_of(user_id: int, *, before_id: int | None, limit: int) -> list[HeldCoupon]:
    """Return a page of a user's coupons in whatever state, newest first."""
    rows = HeldCouponRow.objects.for_user(user_id).filter(user_id=user_id).exclude(state=HeldCouponState.VOID)
    if before_id is not None:
        rows = rows.filter(id__lt=before_id)
    return [
        HeldCoupon(
            id=row.id,
            user_id=row.user_id,
            template_id=row.template_id,
            state=row.state,
            order_id=row.order_id,
            discount=row.discount,
            claimed_at=row.claimed_at,
            expires_at=row.expires_at,
        )
        for row in rows.order_by("-id")[:limit]
    ]


def coupon_state(coupon: HeldCoupon, *, now: datetime) -> CouponState:
    """Return what a coupon is to its owner now."""
    if coupon.state == HeldCouponState.REDEEMED:
        return CouponState.REDEEMED
    return CouponState.HELD if now < coupon.expires_at else CouponState.EXPIRED


def forget_cached_templates() -> None:
    """Empty this process's caches of coupon templates, after a change that its own readers should see at once."""
    _TEMPLATES.clear()
    _TEMPLATE_LISTS.clear()


def _load_templates(template_ids: Collection[int]) -> dict[int, Template]:
    rows = CouponTemplate.objects.using(_ALIAS).filter(id__in=list(template_ids))
    return {row.id: _template(row) for row in rows}


def _load_template_lists(keys: Collection[str]) -> dict[str, Sequence[Template]]:
    rows = CouponTemplate.objects.using(_ALIAS).filter(is_active=True, is_listed=True, ends_at__gt=timezone.now())
    found = [_template(row) for row in rows.order_by("-id")[: settings.COUPON_TEMPLATES_LISTED]]
    return dict.fromkeys(keys, tuple(found))


def _template(row: CouponTemplate) -> Template:
    return Template(
        id=row.id,
        name=row.name,
        terms=CouponTerms(
            kind=CouponKind(row.kind),
            currency=row.currency,
            amount=row.amount,
            percent=row.percent,
            max_discount=row.max_discount,
            threshold=row.threshold,
            categories=frozenset(row.categories),
            products=frozenset(row.products),
            skus=frozenset(row.skus),
            stackable=row.stackable,
        ),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        valid_days=row.valid_days,
        total_limit=row.total_limit,
        per_user_limit=row.per_user_limit,
        is_listed=row.is_listed,
        is_active=row.is_active,
        claimed_count=row.claimed_count,
    )


_SALES: Final[L1Cache[int, Sale]] = L1Cache(
    _load_sales, ttl_s=lambda: settings.FLASH_SALE_TTL_S, size=2_000, max_idle_loads=30
)
_LISTS: Final[L1Cache[str, Sequence[Sale]]] = L1Cache(_load_lists, ttl_s=lambda: settings.FLASH_SALE_TTL_S, size=1)
_LEFT: Final[L1Cache[ItemKey, int]] = L1Cache(
    _load_left, ttl_s=lambda: settings.FLASH_SALE_TTL_S, size=10_000, max_idle_loads=30
)
_TEMPLATES: Final[L1Cache[int, Template]] = L1Cache(
    _load_templates, ttl_s=lambda: settings.COUPON_TEMPLATE_TTL_S, size=5_000, max_idle_loads=30, ahead_s=0.5
)
_TEMPLATE_LISTS: Final[L1Cache[str, Sequence[Template]]] = L1Cache(
    _load_template_lists, ttl_s=lambda: settings.COUPON_TEMPLATE_TTL_S, size=1
)
