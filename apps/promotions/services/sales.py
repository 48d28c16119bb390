"""Sales as the staff make and change them: rows of `promotions`, by compare-and-set on the version."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F

from apps.catalog.selectors import prices
from apps.catalog.types import SkuPrice
from apps.promotions import events
from apps.promotions.domain import ALLOWED_TRANSITIONS, LIVE_STATES, SaleState, approval_reasons
from apps.promotions.errors import SaleChanged, SaleRefused
from apps.promotions.events import sale_event
from apps.promotions.models import FlashSale, FlashSaleItem
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.types import CONSOLE, NewItem, NewSale, Sale
from infra.dynamic.definitions import DynamicInteger
from infra.outbox.services import append
from infra.sharding.workers import new_id

PROMOTIONS: Final = "promotions"
MAX_ITEMS: Final = 50
MAX_QUOTA: Final = 10_000_000
MAX_TESTERS: Final = 100

MIN_PRICE_PERCENT: Final = DynamicInteger(
    "flash_sales.approval.min_price_percent",
    default=20,
    minimum=0,
    maximum=100,
    meaning="A sale with a price below so many percent of the catalog's needs a second person's approval (0: none).",
)
MAX_WORTH: Final = DynamicInteger(
    "flash_sales.approval.max_worth",
    default=250_000,
    minimum=0,
    maximum=1_000_000_000,
    meaning="A sale of units worth more than this at the catalog's prices needs a second person's approval (0: none).",
)


def create_sale(new: NewSale, *, by: int, now: datetime) -> Sale:
    """Write a sale as a draft, which nobody but the staff sees; nothing is allotted.

    `by` is the staff account that makes it, or CONSOLE.
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
        rehearsal=new.rehearsal,
        testers=sorted(set(new.testers)),
        state=SaleState.DRAFT,
        created_at=now,
        updated_at=now,
        **_shaped([(item.sku, item.price, item.quota) for item in new.items], priced, by=by, before=None, now=now),
    )
    with transaction.atomic(using=PROMOTIONS):
        sale.save(using=PROMOTIONS, force_insert=True)
        append(PROMOTIONS, sale_event(events.MADE, sale, units={item.sku: item.quota for item in new.items}), now=now)
        FlashSaleItem.objects.using(PROMOTIONS).bulk_create(
            _row(sale, item, priced[item.sku]) for item in sorted(new.items, key=lambda item: item.sku)
        )
    return get_sale(sale.id)


def move_sale(sale: Sale, state: SaleState, *, now: datetime) -> Sale:
    """Bring a sale into another state, by compare-and-set on its version.

    Raises SaleRefused when its state does not lead there or it awaits approval, SaleChanged when somebody else was
    first. Concurrency: an edit that voids the approval raises the version too, so the sale is never moved past it.
    """
    if state not in ALLOWED_TRANSITIONS[sale.state]:
        raise SaleRefused(f"A sale that is {sale.state} cannot become {state}.")
    if state in (SaleState.SCHEDULED, SaleState.RUNNING):
        check_approved(sale)
    kind = events.kind_of_move(sale.state, state)
    return _write(sale, {"state": state}, kind, now=now)


def change_sale(
    sale: Sale,
    *,
    ends_at: datetime | None = None,
    quotas: Sequence[tuple[str, int]] = (),
    by: int,
    now: datetime,
) -> Sale:
    """Move the end of a draft or live sale, or raise quotas; the caller allots the units of a raised quota.

    A higher quota or a later end is judged like a new sale, and voids an approval: if the sale needs one, it is paused
    until somebody other than `by` gives it.
    Raises SaleRefused for a sale that is over, a quota that falls, an end that lies before the start; SaleChanged.
    """
    if sale.state not in (SaleState.DRAFT, *LIVE_STATES):
        raise SaleRefused(f"A sale that is {sale.state} does not change.")
    if ends_at is not None and ends_at < max(sale.starts_at, now):
        raise SaleRefused("A sale cannot end before it starts, nor in the past.")
    for sku, quota in quotas:
        if sku not in sale.items or not sale.items[sku].quota <= quota <= MAX_QUOTA:
            raise SaleRefused(f"The quota of {sku} can only be raised, and to {MAX_QUOTA} at most.")
    changes: dict[str, Any] = {} if ends_at is None else {"ends_at": ends_at}
    raised = {sku: quota for sku, quota in quotas if quota > sale.items[sku].quota}
    if raised or (ends_at is not None and ends_at > sale.ends_at):
        terms = [(item.sku, item.price, raised.get(item.sku, item.quota)) for item in sale.items.values()]
        changes |= _shaped(terms, prices(list(sale.items)), by=by, before=sale, now=now)
    kind = events.QUOTA_RAISED if quotas else events.END_MOVED
    with transaction.atomic(using=PROMOTIONS):
        changed = _write(sale, changes, kind, units=raised, now=now)
        for sku, quota in quotas:
            FlashSaleItem.objects.using(PROMOTIONS).filter(sale_id=sale.id, sku=sku).update(quota=quota)
    return get_sale(changed.id) if quotas else changed


def approve_sale(sale: Sale, *, version: int, by: int, now: datetime) -> Sale:
    """Let a sale sell that needs a second person's approval; `version` is the one that this person has looked at.

    Idempotent for the same person and version. Raises SaleRefused when there is nothing to approve, or `by` made the
    sale or a change of it that nobody has approved; SaleChanged when it is no longer what was looked at.
    """
    if sale.approved_by == by and sale.version == version + 1:
        return sale
    if sale.version != version:
        raise SaleChanged("The sale has changed since you looked at it: look again.")
    if not sale.awaits_approval or sale.state not in (SaleState.DRAFT, *LIVE_STATES):
        raise SaleRefused("There is nothing to approve.")
    if by in sale.shaped_by:
        raise SaleRefused("Somebody else has to approve it: its figures are yours.")
    return _write(sale, {"approved_by": by, "approved_at": now, "shaped_by": []}, events.APPROVED, now=now)


def check_approved(sale: Sale) -> None:
    """Raise SaleRefused for a sale that awaits approval."""
    if sale.awaits_approval:
        raise SaleRefused(f"It has to be approved by a second person first: {sale.approval_reason}.")


def shorten_sale(sale: Sale, *, now: datetime) -> Sale:
    """Let a live sale end now; one that has not begun begins and ends now. Raises SaleChanged."""
    return _write(sale, {"starts_at": min(sale.starts_at, now), "ends_at": now}, events.END_MOVED, now=now)


def mark_closed(sale: Sale, *, now: datetime) -> Sale:
    """Note that no unit is the sale's any more; a sale that has run its time thereby becomes ended.

    The caller has closed every allotment and seen that no transfer is open. Raises SaleChanged.
    """
    is_cancelled = sale.state == SaleState.CANCELLED
    state, kind = (SaleState.CANCELLED, events.CLOSED) if is_cancelled else (SaleState.ENDED, events.ENDED)
    return _write(sale, {"state": state, "closed_at": now}, kind, now=now)


def _write(
    sale: Sale, changes: dict[str, Any], kind: str, *, units: Mapping[str, int] | None = None, now: datetime
) -> Sale:
    """Change the sale and tell it, in one transaction: the compare-and-set first, so that events are in its order."""
    with transaction.atomic(using=PROMOTIONS):
        rows = FlashSale.objects.using(PROMOTIONS).filter(id=sale.id, version=sale.version)
        if rows.update(**changes, version=F("version") + 1, updated_at=now) != 1:
            raise SaleChanged(f"Sale {sale.id} is no longer at version {sale.version}.")
        changed = FlashSale.objects.using(PROMOTIONS).get(id=sale.id)
        append(PROMOTIONS, sale_event(kind, changed, units=units), now=now)
    forget_cached()
    return get_sale(sale.id)


def _shaped(
    terms: Iterable[tuple[str, Decimal, int]],
    priced: Mapping[str, SkuPrice],
    *,
    by: int,
    before: Sale | None,
    now: datetime,
) -> dict[str, Any]:
    """Return what new figures (SKU, price, quota) by somebody make of a sale's approval, and of its state."""
    reasons = approval_reasons(
        [(sku, price, priced[sku].unit_price if sku in priced else price, quota) for sku, price, quota in terms],
        min_price_percent=MIN_PRICE_PERCENT.value,
        max_worth=MAX_WORTH.value,
    )
    unapproved = before.shaped_by if before is not None else ()
    is_approved = by == CONSOLE and settings.FLASH_CONSOLE_APPROVES and bool(reasons)
    changes: dict[str, Any] = {
        "approval_reason": "; ".join(reasons)[:500],
        "shaped_by": [] if is_approved else sorted({*unapproved, by}),
        "approved_by": CONSOLE if is_approved else None,
        "approved_at": now if is_approved else None,
    }
    if reasons and not is_approved and before is not None and before.state in LIVE_STATES:
        changes["state"] = SaleState.PAUSED
    return changes


def _check(new: NewSale, on_sale: set[str], *, now: datetime) -> None:
    if not new.name.strip() or len(new.name) > 120:
        raise SaleRefused("A sale has a name of at most 120 characters.")
    if not now < new.ends_at or not new.starts_at < new.ends_at:
        raise SaleRefused("A sale ends after it starts, and in the future.")
    if not 1 <= len(new.items) <= MAX_ITEMS:
        raise SaleRefused(f"A sale has 1 to {MAX_ITEMS} SKUs.")
    if len({item.sku for item in new.items}) < len(new.items):
        raise SaleRefused("A sale has each SKU once.")
    if new.rehearsal is not bool(new.testers) or len(new.testers) > MAX_TESTERS:
        raise SaleRefused(f"A rehearsal, and nothing else, has 1 to {MAX_TESTERS} testers.")
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
