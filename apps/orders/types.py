"""Frozen values that cross the border of orders.

Those that are made for every order are msgspec's structs: frozen dataclasses, but made in a tenth of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from apps.orders.fulfillment import LineShare, ReturnStatus, ShipmentStatus, return_id, shipment_id
from infra.idempotency.types import RequestKey


class OrderRequest(Struct, frozen=True):
    """A checked request to place an order.

    `items` are (SKU, quantity) as the client wrote them, before merging. `exempt` shoppers (the bench's) are not held
    to the limit of open unpaid orders.
    """

    key: RequestKey
    items: tuple[tuple[str, int], ...]
    address_id: int
    coupons: tuple[str, ...] = ()
    points: int = 0
    expected_total: Decimal | None = None
    note: str = ""
    exempt: bool = False


class FlashOrderRequest(Struct, frozen=True):
    """A checked request to buy in a flash sale; `token` is the purchase token, None where none was sent.

    `address` is the client's IP address, empty where it is not known (any more).
    """

    key: RequestKey
    sale_id: int
    sku: str
    quantity: int
    address_id: int
    token: str | None = None
    exempt: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True)
class TicketView:
    """Where a ticket of a queued sale stands: `waiting`, `ordered` or `refused`, with what goes with it."""

    status: str
    position: int | None = None
    order_id: int | None = None
    code: str = ""


class OrderLineView(Struct, frozen=True):
    """One line of an order, priced when it was placed; `discount` and `points_value` are its shares of the order's."""

    line: int
    sku: str
    title: str
    quantity: int
    unit_price: Decimal
    line_total: Decimal
    discount: Decimal
    points_value: Decimal
    refunded_quantity: int


class OrderView(Struct, frozen=True):
    """An order as its owner sees it (the API contract's `Order`), amounts with the currency's decimals."""

    id: int
    user_id: int
    status: str
    payment_status: str
    fulfillment_status: str
    currency: str
    subtotal: Decimal
    discount: Decimal
    points_used: int
    points_value: Decimal
    shipping_fee: Decimal
    total: Decimal
    refunded_total: Decimal
    items: tuple[OrderLineView, ...]
    address: Mapping[str, str]
    coupons: tuple[str, ...]
    note: str
    cancel_reason: str
    placed_at: datetime
    expires_at: datetime | None
    paid_at: datetime | None
    updated_at: datetime
    version: int


class PlacedOrder(Struct, frozen=True):
    """What placing ends in; `replayed` when an earlier attempt with the same key had placed it."""

    order: OrderView
    replayed: bool


@dataclass(frozen=True, slots=True)
class OrderEventView:
    """One step in an order's life."""

    version: int
    kind: str
    at: datetime
    actor: str
    detail: str


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What a list of orders is narrowed to; times are on `placed_at`, `placed_to` is exclusive."""

    status: str | None = None
    placed_from: datetime | None = None
    placed_to: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """A row of the staff's list."""

    id: int
    user_id: int
    status: str
    payment_status: str
    fulfillment_status: str
    currency: str
    total: Decimal
    city: str
    country: str
    placed_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one run of a sweeper did, by outcome."""

    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All rows that were looked at."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """A checked request to pay an order."""

    key: RequestKey
    order_id: int
    provider: str
    method: str = ""
    return_url: str = ""


@dataclass(frozen=True, slots=True)
class StartedPayment:
    """The answer to the start of a payment; `replayed` when an earlier request with the same key has started it."""

    body: bytes
    replayed: bool


class QuoteRequest(Struct, frozen=True):
    """A checked request to tell what an order would cost; see `OrderRequest`."""

    user_id: int
    items: tuple[tuple[str, int], ...]
    coupons: tuple[str, ...] = ()
    points: int = 0
    address_id: int | None = None


class CouponQuote(Struct, frozen=True):
    """What a coupon that was named does for an order: `discount` off its goods, or `reason` why it does not apply."""

    coupon_id: str
    applicable: bool
    discount: Decimal
    reason: str | None = None
    detail: str | None = None


class Suggestion(Struct, frozen=True):
    """The coupons of the shopper that would save most, and what the order would cost with them alone."""

    coupons: tuple[str, ...]
    discount: Decimal
    shipping_fee: Decimal
    total: Decimal


class Quote(Struct, frozen=True):
    """What an order would cost with those of its coupons that apply, amounts with the currency's decimals."""

    currency: str
    subtotal: Decimal
    discount: Decimal
    points_used: int
    points_value: Decimal
    shipping_fee: Decimal
    total: Decimal
    items: tuple[OrderLineView, ...]
    coupons: tuple[CouponQuote, ...]
    suggested: Suggestion


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A checked request for the money of some of an order's units; `items` are (SKU, quantity) before merging."""

    key: RequestKey
    order_id: int
    items: tuple[tuple[str, int], ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RequestedRefund:
    """The answer to a request for a refund; `replayed` when an earlier request with the same key was given it."""

    body: bytes
    replayed: bool


@dataclass(frozen=True, slots=True)
class TrackView:
    """One event of a shipment's way; `at` is by the carrier's clock."""

    at: datetime
    status: ShipmentStatus
    place: str


@dataclass(frozen=True, slots=True)
class ShipmentView:
    """A shipment as its shopper sees it; `track` oldest first."""

    order_id: int
    n: int
    status: ShipmentStatus
    carrier: str
    number: str
    items: tuple[LineShare, ...]
    track: tuple[TrackView, ...]
    handed_over_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def shipment_id(self) -> str:
        """The id that shoppers and carriers know it by."""
        return shipment_id(self.order_id, self.n)


@dataclass(frozen=True, slots=True)
class ReturnLineView:
    """Units of one line in a return: announced, counted when they came, and put back into stock."""

    line: int
    sku: str
    quantity: int
    received_quantity: int
    restocked_quantity: int


@dataclass(frozen=True, slots=True)
class ReturnView:
    """A return as its shopper sees it."""

    order_id: int
    n: int
    status: ReturnStatus
    reason: str
    note: str
    refund_n: int | None
    items: tuple[ReturnLineView, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def return_id(self) -> str:
        """The id that its shopper knows it by."""
        return return_id(self.order_id, self.n)
