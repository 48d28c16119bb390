"""Shoppers with an address, SKUs on sale, requests and placed orders; each test has its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from secrets import token_hex
from typing import Any

from django.db import connections
from django.utils import timezone

from apps.catalog.models import Category, Price, Product, Sku
from apps.orders.models import Order, OrderEvent
from apps.orders.services.drafting import OrderDraft, draft_order, with_addresses
from apps.orders.services.placement import place_order
from apps.orders.types import OrderRequest, OrderView
from infra.idempotency.keys import request_key
from infra.sharding.months import Month
from infra.sharding.places import place_of_order, place_of_user
from tests.factories.inventory import make_stock
from tests.factories.users import make_address, make_customer


@dataclass(frozen=True, slots=True)
class Buyer:
    """A shopper who can order: the user and an address of theirs."""

    user_id: int
    address_id: int


def make_buyer(*, shard: int | None = None) -> Buyer:
    """Write a customer with an address, on a shard of choice."""
    customer = make_customer(shard=shard)
    return Buyer(customer.user_id, make_address(customer.user_id).id)


def make_sku(on_hand: int = 100, *, price: str = "2.50", title: str = "Lantern", sku: str = "") -> str:
    """Put a SKU on sale with that many units, and return its code."""
    code = sku or f"T{token_hex(6)}"
    category, _ = Category.objects.get_or_create(slug="tests", defaults={"name": "Tests"})
    product = Product.objects.create(category=category, title=title)
    row = Sku.objects.create(product=product, code=code)
    Price.objects.create(sku=row, currency="GBP", amount=Decimal(price))
    return make_stock(on_hand, sku=code)


def order_request(
    buyer: Buyer,
    items: Sequence[tuple[str, int]],
    *,
    key: str | None = None,
    body: object = None,
    **changes: Any,
) -> OrderRequest:
    """Return a request as the API makes it; a key of its own if none is given."""
    values = {"items": tuple(items), "address_id": buyer.address_id, "exempt": True, **changes}
    decoded = body if body is not None else {name: str(value) for name, value in values.items()}
    identity = request_key(
        user_id=buyer.user_id, method="POST", path="/api/v1/orders", key=key or token_hex(8), body=decoded
    )
    return OrderRequest(key=identity, **values)


def complete_draft(request: OrderRequest) -> OrderDraft:
    """Return the order of a request as it is before its stock is claimed."""
    [draft] = with_addresses(place_of_user(request.key.user_id).alias, [draft_order(request)])
    assert isinstance(draft, OrderDraft)
    return draft


def placed_order(
    buyer: Buyer | None = None, items: Sequence[tuple[str, int]] = (), *, now: datetime | None = None, **changes: Any
) -> OrderView:
    """Place an order, of a new buyer for one unit of a new SKU if nothing else is said."""
    request = order_request(buyer or make_buyer(), items or [(make_sku(), 1)], **changes)
    return place_order(request, now=now or timezone.now()).order


def order_rows(order_id: int) -> list[Order]:
    """Return what stands under an id: an order, a tombstone, or nothing."""
    return list(Order.objects.for_order(order_id).filter(id=order_id))


def event_versions(order_id: int) -> list[tuple[int, str]]:
    """Return version and kind of the order's events."""
    return list(
        OrderEvent.objects.for_order(order_id)
        .filter(order_id=order_id)
        .order_by("version")
        .values_list("version", "kind")
    )


def outbox_of(order_id: int) -> list[tuple[int, str]]:
    """Return version and type of the domain events appended for an order."""
    with connections[place_of_order(order_id).alias].cursor() as cursor:
        cursor.execute(
            "SELECT aggregate_version, type FROM outbox_event"
            " WHERE aggregate = 'order' AND aggregate_id = %s ORDER BY id",
            [order_id],
        )
        return list(cursor.fetchall())


def expire_at(order_id: int, at: datetime) -> None:
    """Move the time at which an unpaid order ends."""
    place = place_of_order(order_id)
    Order.objects.at(place, Month.of_id(order_id)).filter(id=order_id).update(expires_at=at)
