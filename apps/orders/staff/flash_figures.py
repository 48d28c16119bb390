"""What the staff see of a running or past flash sale, read from the shards and the processes' counters."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import OperationalError

from apps.orders.metrics import flash_answers
from apps.promotions.errors import QueueUnavailable
from apps.promotions.models import ClaimState
from apps.promotions.selectors import allotments_of, claimed_units, open_transfers
from apps.promotions.services import SaleQueue
from apps.promotions.types import Sale
from infra.sharding.places import shard_aliases

_UNPAID = (ClaimState.HELD,)
_PAID = (ClaimState.SETTLING, ClaimState.SETTLED)


@dataclass(slots=True)
class SaleFigures:
    """Sums over the shards that answer; `unreachable` names the others. Money in the sale's currency."""

    left: int = 0
    sold: int = 0
    orders: int = 0
    unpaid: int = 0
    paid: int = 0
    returned: int = 0
    revenue: Decimal = Decimal(0)
    under_way: int = 0
    waiting: int | None = None
    refusals: dict[str, int] = field(default_factory=dict)
    unreachable: list[str] = field(default_factory=list)

    def add(self, state: ClaimState, units: int, *, price: Decimal) -> None:
        """Add the units of claims in one state."""
        if state in _UNPAID:
            self.unpaid += units
        elif state in _PAID:
            self.paid += units
            self.revenue += units * price
        else:
            self.returned += units

    def sell_through(self, sale: Sale) -> int:
        """Return the part of the quota that is sold, in percent."""
        quota = sum(item.quota for item in sale.items.values())
        return round(100 * self.sold / quota) if quota else 0


def sale_figures(sale: Sale) -> SaleFigures:
    """Return how a sale stands: three indexed reads a shard, whatever its size."""
    figures = SaleFigures()
    items = [(sale.id, sku) for sku in sale.items]
    for alias in shard_aliases():
        try:
            for allotment in allotments_of(alias, items).values():
                figures.left += allotment.unsold
                figures.sold += allotment.sold
            for (sku, state), (orders, units) in claimed_units(alias, sale.id).items():
                figures.orders += orders
                figures.add(state, units, price=sale.items[sku].price)
            figures.under_way += sum(
                transfer.quantity for item in items for transfer in open_transfers(alias, item=item)
            )
        except OperationalError:
            figures.unreachable.append(alias)
    try:
        figures.waiting = sum(SaleQueue(sale.id, alias).length() for alias in shard_aliases())
    except QueueUnavailable:
        figures.unreachable.append("the queue")
    answers = Counter(flash_answers(sale.id))
    figures.refusals = {answer: count for answer, count in answers.most_common() if answer not in ("ordered", "queued")}
    return figures


def overlapping(sales: list[Sale]) -> dict[int, list[str]]:
    """Return, by sale, the SKUs that another sale which is not over sells at the same time."""
    overlaps: dict[int, list[str]] = {}
    live = [sale for sale in sales if sale.closed_at is None]
    for one in live:
        for other in live:
            if one.id != other.id and one.starts_at < other.ends_at and other.starts_at < one.ends_at:
                overlaps.setdefault(one.id, []).extend(sorted(one.items.keys() & other.items.keys()))
    return overlaps


def live_document(sale: Sale, *, now: datetime) -> dict[str, object]:
    """Return what the live page asks for every few seconds; it works out the rates from two answers."""
    figures = sale_figures(sale)
    return {
        "state": str(sale.state),
        "phase": str(sale.phase(now)),
        "left": figures.left,
        "sold": figures.sold,
        "orders": figures.orders,
        "unpaid": figures.unpaid,
        "paid": figures.paid,
        "returned": figures.returned,
        "under_way": figures.under_way,
        "waiting": figures.waiting,
        "refusals": figures.refusals,
        "unreachable": figures.unreachable,
        "at": now.timestamp(),
    }
