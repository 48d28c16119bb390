"""Sales as the staff make and change them: rows of `promotions`, by compare-and-set on the version."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F

from apps.catalog.selectors import prices
from apps.catalog.types import SkuPrice
from apps.promotions.domain import ALLOWED_TRANSITIONS, LIVE_STATES, SaleState
from apps.promotions.errors import SaleChanged, SaleRefused
from apps.promotions.models import FlashSale, FlashSaleItem
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.types import NewItem, NewSale, Sale
from infra.sharding.workers import new_id

PROMOTIONS: Final = "promotions"
MAX_ITEMS: Final = 50
MAX_QUOTA: Final = 10_000_000


def create_sale(new: NewSale, *, now: datetime) -> Sale:
    """Write a sale as a draft, which nobody but the staff sees; nothing is allotted.

    Raises SaleRefused, which names what is wrong: times, an item's figures, a SKU that is not on sale, a SKU twice.
    """
    priced = prices([item.sku for item in new.items])
    _check(new, {sku for sku, price in priced.items() if price.active}, now=now)
    sale = FlashSale(
        id=new_id(),
        name=new.name,
        starts_at=new.starts_at,
        ends_at=new.ends_at,
        mode=new.mode,
        token_required=new.token_required,
        state=SaleState.DRAFT,
        created_at=now,
        updated_at=now,
    )
    with transaction.atomic(using=PROMOTIONS):
        sale.save(using=PROMOTIONS, force_insert=True)
        FlashSaleItem.objects.using(PROMOTIONS).bulk_create(
            _row(sale, item, priced[item.sku]) for item in sorted(new.items, key=lambda item: item.sku)
        )
    return get_sale(sale.id)


def move_sale(sale: Sale, state: SaleState, *, now: datetime) -> Sale:
    """Bring a sale into another state, by compare-and-set on its version.

    Raises SaleRefused when its state does not lead there, SaleChanged when somebody else was first.
    """
    if state not in ALLOWED_TRANSITIONS[sale.state]:
        raise SaleRefused(f"A sale that is {sale.state} cannot become {state}.")
    return _write(sale, {"state": state}, now=now)


def change_sale(
    sale: Sale,
    *,
    ends_at: datetime | None = None,
    quotas: Sequence[tuple[str, int]] = (),
    now: datetime,
) -> Sale:
    """Move the end of a live sale, or raise quotas; the units of a raised quota are allotted by the caller.

    Raises SaleRefused for a sale that is not live, a quota that falls, an end that lies before the start; SaleChanged.
    """
    if sale.state not in LIVE_STATES:
        raise SaleRefused(f"A sale that is {sale.state} does not change.")
    if ends_at is not None and ends_at < max(sale.starts_at, now):
        raise SaleRefused("A sale cannot end before it starts, nor in the past.")
    for sku, quota in quotas:
        if sku not in sale.items or not sale.items[sku].quota <= quota <= MAX_QUOTA:
            raise SaleRefused(f"The quota of {sku} can only be raised, and to {MAX_QUOTA} at most.")
    with transaction.atomic(using=PROMOTIONS):
        changed = _write(sale, {} if ends_at is None else {"ends_at": ends_at}, now=now)
        for sku, quota in quotas:
            FlashSaleItem.objects.using(PROMOTIONS).filter(sale_id=sale.id, sku=sku).update(quota=quota)
    return get_sale(changed.id) if quotas else changed


def shorten_sale(sale: Sale, *, now: datetime) -> Sale:
    """Let a live sale end now; one that has not begun begins and ends now. Raises SaleChanged."""
    return _write(sale, {"starts_at": min(sale.starts_at, now), "ends_at": now}, now=now)


def mark_closed(sale: Sale, *, now: datetime) -> Sale:
    """Note that no unit is the sale's any more; a sale that has run its time thereby becomes ended.

    The caller has closed every allotment and seen that no transfer is open. Raises SaleChanged.
    """
    state = SaleState.CANCELLED if sale.state == SaleState.CANCELLED else SaleState.ENDED
    return _write(sale, {"state": state, "closed_at": now}, now=now)


def _write(sale: Sale, changes: dict[str, Any], *, now: datetime) -> Sale:
    rows = FlashSale.objects.using(PROMOTIONS).filter(id=sale.id, version=sale.version)
    if rows.update(**changes, version=F("version") + 1, updated_at=now) != 1:
        raise SaleChanged(f"Sale {sale.id} is no longer at version {sale.version}.")
    forget_cached()
    return get_sale(sale.id)


def _check(new: NewSale, on_sale: set[str], *, now: datetime) -> None:
    if not new.name.strip() or len(new.name) > 120:
        raise SaleRefused("A sale has a name of at most 120 characters.")
    if not now < new.ends_at or not new.starts_at < new.ends_at:
        raise SaleRefused("A sale ends after it starts, and in the future.")
    if not 1 <= len(new.items) <= MAX_ITEMS:
        raise SaleRefused(f"A sale has 1 to {MAX_ITEMS} SKUs.")
    if len({item.sku for item in new.items}) < len(new.items):
        raise SaleRefused("A sale has each SKU once.")
    for item in new.items:
        if item.sku not in on_sale:
            raise SaleRefused(f"{item.sku} is not on sale in the catalog.")
        if not 1 <= item.quota <= MAX_QUOTA or not 1 <= item.per_user_limit <= settings.ORDER_MAX_QUANTITY:
            raise SaleRefused(
                f"{item.sku}: a quota is 1 to {MAX_QUOTA}, a limit for each buyer 1 to {settings.ORDER_MAX_QUANTITY}."
            )
        if item.price <= 0:
            raise SaleRefused(f"{item.sku}: a price is above zero.")


def _row(sale: FlashSale, item: NewItem, price: SkuPrice) -> FlashSaleItem:
    return FlashSaleItem(
        sale=sale,
        sku=item.sku,
        title=price.title,
        price=item.price,
        currency=price.currency,
        quota=item.quota,
        per_user_limit=item.per_user_limit,
    )
