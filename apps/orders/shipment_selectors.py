"""Reads of shipments: what of an order has been shipped, what is left to ship, and where it is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from apps.orders.domain import FulfillmentStatus
from apps.orders.fulfillment import LineShare, LineUnits, ShipmentStatus, fulfillment_after
from apps.orders.models import Order, OrderLine, ReturnLine, Shipment, ShipmentLine, Track
from apps.orders.selectors import get_order_row, order_items
from apps.orders.types import ShipmentView, TrackView
from apps.payments.selectors import refunds_of
from apps.payments.types import RefundStatus
from infra.sharding.monthly import existing_months
from infra.sharding.places import shard_aliases

MAX_FOUND: Final = 20


@dataclass(frozen=True, slots=True)
class Goods:
    """Where the goods of an order are: units by line, and the statuses of its shipments by number."""

    units: tuple[LineUnits, ...]
    shipments: Mapping[int, ShipmentStatus]

    @property
    def left(self) -> list[LineShare]:
        """What is left to ship."""
        return [LineShare(line.line, line.sku, line.to_ship) for line in self.units if line.to_ship]

    def with_shipment(self, n: int, status: ShipmentStatus) -> "Goods":
        """Return the goods as they are once a shipment has another status."""
        return replace(self, shipments={**self.shipments, n: status})

    def with_units(
        self, shares: Iterable[LineShare], *, shipped: int = 0, returned: int = 0, withdrawn: int = 0
    ) -> "Goods":
        """Return the goods as they are once units are (1), or are not any more (-1), shipped, returned or withdrawn."""
        units_of = Counter({share.line: share.units for share in shares})
        return replace(
            self,
            units=tuple(
                replace(
                    line,
                    shipped=line.shipped + shipped * units_of[line.line],
                    returned=line.returned + returned * units_of[line.line],
                    withdrawn=line.withdrawn + withdrawn * units_of[line.line],
                )
                for line in self.units
            ),
        )

    def fulfillment(self, known: str) -> FulfillmentStatus:
        """Return how far the order has come, never less far than is known."""
        return fulfillment_after(FulfillmentStatus(known), self.units, self.shipments.values())


def goods_of(order: Order) -> Goods:
    """Return where the order's goods are, by its rows.

    Of one moment inside a transaction that has locked the order, and before it changes any of the rows.
    """
    lines = order_items(order.id)
    # Lines before shipments: whoever adds both at the same time is seen with both, or without the lines.
    sent = list(ShipmentLine.objects.for_order(order.id).filter(order_id=order.id).values_list("n", "line", "quantity"))
    statuses = {
        n: ShipmentStatus(status)
        for n, status in Shipment.objects.for_order(order.id).filter(order_id=order.id).values_list("n", "status")
    }
    shipped: Counter[int] = Counter()
    for n, line, quantity in sent:
        if statuses[n] != ShipmentStatus.CANCELLED:
            shipped[line] += quantity
    returned: Counter[int] = Counter()
    for line, units in (
        ReturnLine.objects.for_order(order.id).filter(order_id=order.id).values_list("line", "received_quantity")
    ):
        returned[line] += units
    withdrawn = _withdrawn(order, lines)
    units_of_lines = tuple(
        LineUnits(
            row.line,
            row.sku,
            row.quantity,
            withdrawn=withdrawn[row.line],
            shipped=shipped[row.line],
            returned=returned[row.line],
        )
        for row in lines
    )
    return Goods(units_of_lines, statuses)


def fulfillment_change(order: Order) -> dict[str, object]:
    """Return what changes in an order when a refund has taken away what was left to ship of it; empty for nothing."""
    if order.fulfillment_status != FulfillmentStatus.PARTIAL:
        return {}
    reached = goods_of(order).fulfillment(order.fulfillment_status)
    return {} if reached == order.fulfillment_status else {"fulfillment_status": reached}


def _withdrawn(order: Order, lines: list[OrderLine]) -> Counter[int]:
    """Return the units of each line that a refund was asked for, or made; a refund without items is for all of them.

    Also of one that failed: the money is still owed, and the units with it.
    """
    withdrawn: Counter[int] = Counter()
    for refund in refunds_of(order.id):
        if refund.status == RefundStatus.REJECTED or refund.unexpected:
            continue
        asked = Counter({item.sku: item.quantity for item in refund.items})
        for line in lines:
            units = min(asked[line.sku], line.quantity) if refund.items else line.quantity
            withdrawn[line.line] += units
            asked[line.sku] -= units
    return withdrawn


def shipments_of(order_id: int) -> list[ShipmentView]:
    """Return the shipments of an order, oldest first, cancelled ones too."""
    rows = list(Shipment.objects.for_order(order_id).filter(order_id=order_id).order_by("n"))
    items: dict[int, list[LineShare]] = defaultdict(list)
    for line in ShipmentLine.objects.for_order(order_id).filter(order_id=order_id).order_by("n", "line"):
        items[line.n].append(LineShare(line.line, line.sku, line.quantity))
    track: dict[int, list[TrackView]] = defaultdict(list)
    for event in Track.objects.for_order(order_id).filter(order_id=order_id).order_by("n", "at", "received_at"):
        track[event.n].append(TrackView(event.at, ShipmentStatus(event.status), event.place))
    return [shipment_view(row, items[row.n], track[row.n]) for row in rows]


def get_shipment(order_id: int, n: int) -> ShipmentView | None:
    """Return one shipment, or None."""
    return next((shipment for shipment in shipments_of(order_id) if shipment.n == n), None)


def own_shipments(*, user_id: int, order_id: int) -> list[ShipmentView]:
    """Return what a shopper sees of the shipments of their order, oldest first; raises OrderNotFound."""
    order = get_order_row(user_id=user_id, order_id=order_id)
    return [shipment for shipment in shipments_of(order.id) if shipment.status != ShipmentStatus.CANCELLED]


def shipments_with_number(number: str) -> list[tuple[int, int]]:
    """Return (order, n) of the shipments that have a tracking number, newest first, for the staff.

    Asks every month of every shard by index; at most `MAX_FOUND` are returned.
    """
    found: list[tuple[int, int]] = []
    for alias in shard_aliases():
        for month in existing_months(alias):
            rows = Shipment.objects.in_month(alias, month).filter(number=number)
            found += rows.values_list("order_id", "n")[:MAX_FOUND]
    return sorted(found, reverse=True)[:MAX_FOUND]


def shipment_view(row: Shipment, items: list[LineShare], track: list[TrackView]) -> ShipmentView:
    """Return the value that leaves this app for a row."""
    return ShipmentView(
        order_id=row.order_id,
        n=row.n,
        status=ShipmentStatus(row.status),
        carrier=row.carrier,
        number=row.number,
        items=tuple(items),
        track=tuple(track),
        handed_over_at=row.handed_over_at,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
