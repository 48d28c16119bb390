"""Flash sales for tests: made through the services, on SKUs of their own, and looked at from all sides."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory.models import Stock
from apps.inventory.places import place_of_sku
from apps.orders.services.flash_placement import place_flash_order
from apps.orders.services.flash_sales import open_sale
from apps.orders.services.payment import record_payment_outcome
from apps.orders.types import FlashOrderRequest, OrderView
from apps.payments.services import create_attempt
from apps.payments.types import AttemptStatus, PaymentOutcome
from apps.promotions.domain import SaleMode
from apps.promotions.selectors import allotments_of, open_transfers
from apps.promotions.types import CONSOLE, Allotment, NewItem, NewSale, Sale
from infra.idempotency.keys import request_key
from infra.sharding.places import place_of_user
from tests.factories.orders import Buyer, make_sku


def make_sale(
    *,
    quota: int = 10,
    per_user_limit: int = 1,
    on_hand: int | None = None,
    sku: str = "",
    starts_in_s: float = -1.0,
    lasts_s: float = 600.0,
    price: str = "1.00",
    now: datetime | None = None,
    **changes: Any,
) -> Sale:
    """Open a sale of one SKU, one of its own with just as many units if none is given; it runs already."""
    now = now or timezone.now()
    sku = sku or make_sku(quota if on_hand is None else on_hand, price="9.00")
    starts_at = now + timedelta(seconds=starts_in_s)
    new = NewSale(
        name="Lanterns",
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=lasts_s),
        mode=changes.pop("mode", SaleMode.DIRECT),
        token_required=changes.pop("token_required", False),
        items=(NewItem(sku, Decimal(price), quota, per_user_limit),),
        rehearsal="testers" in changes,
        testers=changes.pop("testers", ()),
    )
    return open_sale(new, by=changes.pop("by", CONSOLE), now=now)


def sku_of(sale: Sale) -> str:
    """Return the sale's only SKU."""
    [sku] = sale.items
    return sku


def flash_request(
    sale: Sale, buyer: Buyer, *, quantity: int = 1, key: str | None = None, **changes: Any
) -> FlashOrderRequest:
    """Return a request as the API makes it; a key of its own if none is given."""
    values = {"sku": sku_of(sale), "quantity": quantity, "address_id": buyer.address_id}
    identity = request_key(
        user_id=buyer.user_id,
        method="POST",
        path=f"/api/v1/flash-sales/{sale.id}/orders",
        key=key or token_hex(8),
        body={name: str(value) for name, value in values.items()},
    )
    return FlashOrderRequest(**{"key": identity, "sale_id": sale.id, "exempt": True, **values, **changes})


def buy(sale: Sale, buyer: Buyer, **changes: Any) -> OrderView:
    """Buy in a sale."""
    return place_flash_order(flash_request(sale, buyer, **changes), now=timezone.now()).order


def pay(order: OrderView) -> None:
    """Have an order paid, as its provider's word does."""
    now, place = timezone.now(), place_of_user(order.user_id)
    with place.atomic():
        attempt = create_attempt(
            place,
            order_id=order.id,
            amount=order.total,
            currency=order.currency,
            provider="sandbox",
            method="",
            return_url="",
            expires_at=order.expires_at,
            now=now,
        )
    record_payment_outcome(order_id=order.id, n=attempt.n, outcome=PaymentOutcome(AttemptStatus.SUCCEEDED), now=now)


def allotments(sale: Sale) -> dict[str, Allotment]:
    """Return the allotments of the sale's only SKU, by shard."""
    item = sale.id, sku_of(sale)
    return {alias: found[item] for alias in settings.SHARD_ALIASES if item in (found := allotments_of(alias, [item]))}


def quotas(sale: Sale) -> list[int]:
    """Return the quota on each shard."""
    return [allotment.quota for allotment in allotments(sale).values()]


def sold(sale: Sale) -> int:
    """Return how many units all shards have sold and not taken back."""
    return sum(allotment.sold for allotment in allotments(sale).values())


def counters_of(sale: Sale) -> tuple[int, int, int]:
    """Return (on hand, reserved, allotted) of the sale's only SKU."""
    row = Stock.objects.using(place_of_sku(sku_of(sale))).get(sku=sku_of(sale))
    return row.on_hand, row.reserved, row.allotted


def transfers_under_way(sale: Sale) -> int:
    """Return how many transfers of the sale are open, wherever."""
    item = sale.id, sku_of(sale)
    return sum(len(open_transfers(alias, item=item)) for alias in ("inventory", *settings.SHARD_ALIASES))


def bought(sale: Sale, buyer: Buyer) -> int:
    """Return the purchases counted for a buyer."""
    with connections[place_of_user(buyer.user_id).alias].cursor() as cursor:
        cursor.execute(
            "SELECT bought FROM promotions_purchase WHERE sale_id = %s AND user_id = %s", [sale.id, buyer.user_id]
        )
        row = cursor.fetchone()
    return row[0] if row else 0


def held_orders(sale: Sale) -> Sequence[int]:
    """Return the orders that hold units of the sale, on all shards."""
    orders: list[int] = []
    for alias in settings.SHARD_ALIASES:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT order_id FROM promotions_claim WHERE sale_id = %s AND state <> 4", [sale.id])
            orders += [order_id for (order_id,) in cursor.fetchall()]
    return orders
