"""Pure rules of shipping: what can be shipped, what track events mean, how far an order has come. No I/O, no Django."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from apps.orders.domain import FulfillmentStatus


class ShipmentStatus(StrEnum):
    """Where a shipment is."""

    PREPARED = "prepared"
    """Being packed; nothing has left yet."""
    HANDED_OVER = "handed_over"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    EXCEPTION = "exception"
    """The carrier has met with something that keeps it from delivering for now."""
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    """Taken apart again before it left."""


class ReturnStatus(StrEnum):
    """Where a return is."""

    REQUESTED = "requested"
    APPROVED = "approved"
    """The buyer may send the goods back."""
    REJECTED = "rejected"
    RECEIVED = "received"
    """The goods are here and counted, and what they are worth is on its way back."""


OPEN_RETURNS: Final = frozenset({ReturnStatus.REQUESTED, ReturnStatus.APPROVED})

UNDER_WAY: Final = (
    ShipmentStatus.HANDED_OVER,
    ShipmentStatus.IN_TRANSIT,
    ShipmentStatus.OUT_FOR_DELIVERY,
    ShipmentStatus.EXCEPTION,
)
"""The carrier has it, and the buyer has not."""

TRACKED: Final = frozenset({*UNDER_WAY, ShipmentStatus.DELIVERED})
"""What a carrier's track event can say."""

_PROGRESS: Final = (
    ShipmentStatus.PREPARED,
    ShipmentStatus.HANDED_OVER,
    ShipmentStatus.IN_TRANSIT,
    ShipmentStatus.EXCEPTION,
    ShipmentStatus.OUT_FOR_DELIVERY,
    ShipmentStatus.DELIVERED,
)


class TrackPoint(NamedTuple):
    """What a track event says: when, by the carrier's clock, and what."""

    at: datetime
    status: ShipmentStatus


def status_after_track(known: ShipmentStatus, told: Collection[TrackPoint]) -> ShipmentStatus:
    """Return where a shipment is by all track events that have come for it, in whatever order they came.

    Delivered is the end, whatever else is told and whenever. Otherwise the latest event by the carrier's clock counts
    (of several at one time, the furthest). One that was cancelled stays so: the caller alerts the staff.
    """
    if known in (ShipmentStatus.DELIVERED, ShipmentStatus.CANCELLED) or not told:
        return known
    if any(point.status == ShipmentStatus.DELIVERED for point in told):
        return ShipmentStatus.DELIVERED
    return max(told, key=lambda point: (point.at, _PROGRESS.index(point.status))).status


@dataclass(frozen=True, slots=True)
class LineUnits:
    """The units of one line of an order. `withdrawn`: refunded, or asked to be; `returned`: back from the buyer."""

    line: int
    sku: str
    bought: int
    withdrawn: int = 0
    shipped: int = 0
    returned: int = 0

    @property
    def to_ship(self) -> int:
        """Units that the buyer has paid for, and has neither got nor is about to get."""
        return max(0, self.bought - self.withdrawn - self.shipped + self.returned)

    @property
    def is_overdrawn(self) -> bool:
        """Whether more units are shipped than are still paid for: a refund was asked for after they were packed."""
        return self.withdrawn + self.shipped - self.returned > self.bought


_ORDER: Final = tuple(FulfillmentStatus)
_NOT_SHIPPED: Final = frozenset({FulfillmentStatus.NONE, FulfillmentStatus.PARTIAL})


def fulfillment_after(
    known: FulfillmentStatus, units: Iterable[LineUnits], shipments: Iterable[ShipmentStatus]
) -> FulfillmentStatus:
    """Return how far the goods of an order have come; never less far than is known.

    `partial` from the first shipment on, packed or gone; `shipped` once nothing is left to ship and all has left;
    `delivered` once all has arrived; `returned` once all that was shipped is back. Shipping again what came back
    without a refund does not make an order less far than it was.
    """
    live = [status for status in shipments if status != ShipmentStatus.CANCELLED]
    lines = list(units)
    is_left = any(line.to_ship for line in lines)
    if not live:
        reached = FulfillmentStatus.NONE
    elif ShipmentStatus.PREPARED in live or (is_left and known in _NOT_SHIPPED):
        reached = FulfillmentStatus.PARTIAL
    elif not is_left and all(line.returned >= line.shipped for line in lines):
        reached = FulfillmentStatus.RETURNED
    elif all(status == ShipmentStatus.DELIVERED for status in live):
        reached = FulfillmentStatus.DELIVERED
    else:
        reached = FulfillmentStatus.SHIPPED
    return max(known, reached, key=_ORDER.index)


# -- references: names of rows that carriers and shoppers get, from which the order is found again --------------------

_REFERENCE: Final = re.compile(r"(shp|ret)_([1-9][0-9]{0,18})_([1-9][0-9]{0,3})")
_MAX_ORDER_ID: Final = 2**63 - 1


def shipment_id(order_id: int, n: int) -> str:
    """Return the id of a shipment: also the carrier's reference and its idempotency key."""
    return f"shp_{order_id}_{n}"


def parse_shipment_id(text: str) -> tuple[int, int] | None:
    """Return order and number of a shipment, or None if the text names none of ours."""
    return _parse("shp", text)


def return_id(order_id: int, n: int) -> str:
    """Return the id of a return: also the reference under which its units go back into stock."""
    return f"ret_{order_id}_{n}"


def parse_return_id(text: str) -> tuple[int, int] | None:
    """Return order and number of a return, or None if the text names none of ours."""
    return _parse("ret", text)


def _parse(kind: str, text: str) -> tuple[int, int] | None:
    match = _REFERENCE.fullmatch(text)
    if match is None or match[1] != kind or int(match[2]) > _MAX_ORDER_ID:
        return None
    return int(match[2]), int(match[3])


class TooManyUnits(ValueError):
    """More units of some SKUs are asked for than there are; `available` tells how many there are of each."""

    def __init__(self, available: Mapping[str, int]) -> None:
        self.available = dict(available)
        super().__init__(f"no more than {self.available}")


class LineShare(NamedTuple):
    """So many units of one line."""

    line: int
    sku: str
    units: int


def allocate(wanted: Mapping[str, int], available: Iterable[LineShare]) -> list[LineShare]:
    """Take quantities of SKUs from lines; one SKU in several lines (imported orders) from the first on.

    Raises TooManyUnits, naming every SKU that falls short.
    """
    left = dict(wanted)
    taken: list[LineShare] = []
    units_of: dict[str, int] = {}
    for share in available:
        units_of[share.sku] = units_of.get(share.sku, 0) + share.units
        if units := min(left.get(share.sku, 0), share.units):
            taken.append(LineShare(share.line, share.sku, units))
            left[share.sku] -= units
    if short := {sku: units_of.get(sku, 0) for sku, units in left.items() if units > 0}:
        raise TooManyUnits(short)
    return taken
