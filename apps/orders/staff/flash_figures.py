"""What the staff see of a running or past flash sale, read from the shards, from stock and from what was counted."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import OperationalError

from apps.inventory.places import inventory_aliases
from apps.orders.domain import round_money
from apps.orders.selectors import refunded_in_sale
from apps.promotions.errors import QueueUnavailable
from apps.promotions.models import ClaimState
from apps.promotions.selectors import (
    allotments_of,
    answers_of,
    claimed_units,
    moved_units,
    open_transfers,
    received_units,
)
from apps.promotions.services import SaleQueue
from apps.promotions.types import STOCK, Answers, Moved, Sale, SaleItem
from infra.sharding.places import shard_aliases

_UNPAID = (ClaimState.HELD,)
_PAID = (ClaimState.SETTLING, ClaimState.SETTLED)


@dataclass(slots=True)
class ItemFigures:
    """How one SKU of a sale stands, in units: sums over the shards that answer."""

    item: SaleItem
    counts: bool = True
    left: int = 0
    sold: int = 0
    orders: int = 0
    unpaid: int = 0
    paid: int = 0
    returned: int = 0

    def add(self, state: ClaimState, units: int) -> None:
        """Add the units of claims in one state."""
        if state in _UNPAID:
            self.unpaid += units
        elif state in _PAID:
            self.paid += units
        else:
            self.returned += units

    @property
    def revenue(self) -> Decimal:
        """What the paid units cost, refunds not taken off; nothing in a rehearsal, whose orders are taken back."""
        return self.paid * self.item.price * self.counts

    @property
    def sell_through(self) -> int:
        """The part of the quota that is sold, in percent."""
        return round(100 * self.sold / self.item.quota)


@dataclass(slots=True)
class SaleFigures:
    """How a sale stands; `unreachable` names what did not answer and is missing. Money in the sale's currency."""

    items: dict[str, ItemFigures]
    under_way: int = 0
    waiting: int | None = None
    answers: Answers = field(default_factory=lambda: Answers({}))
    unreachable: list[str] = field(default_factory=list)

    def total(self, name: str) -> int:
        """Return a figure of the items, summed up."""
        return sum(getattr(figures, name) for figures in self.items.values())

    @property
    def revenue(self) -> Decimal:
        """What the paid units cost, refunds not taken off."""
        return sum((figures.revenue for figures in self.items.values()), Decimal(0))

    @property
    def sell_through(self) -> int:
        """The part of all quotas that is sold, in percent."""
        return round(100 * self.total("sold") / sum(figures.item.quota for figures in self.items.values()))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Where the units of an item went that one shard was given, or (`alias` is STOCK) that all of them were."""

    sku: str
    alias: str
    received: int
    passed_on: int
    sold: int
    left: int
    returned: int

    @property
    def unaccounted(self) -> int:
        """Units received that are nowhere; 0 when nothing is lost. Of a sale that moves, it is not exact."""
        return self.received - self.passed_on - self.sold - self.left - self.returned


def sale_figures(sale: Sale) -> SaleFigures:
    """Return how a sale stands: three indexed reads a shard, whatever its size."""
    figures = SaleFigures({sku: ItemFigures(item, not sale.rehearsal) for sku, item in sale.items.items()})
    keys = [(sale.id, sku) for sku in sale.items]
    for alias in shard_aliases():
        try:
            for allotment in allotments_of(alias, keys).values():
                figures.items[allotment.sku].left += allotment.unsold
                figures.items[allotment.sku].sold += allotment.sold
            for (sku, state), (orders, units) in claimed_units(alias, sale.id).items():
                figures.items[sku].orders += orders
                figures.items[sku].add(state, units)
            figures.under_way += sum(transfer.quantity for key in keys for transfer in open_transfers(alias, item=key))
        except OperationalError:
            figures.unreachable.append(alias)
    try:
        figures.waiting = sum(SaleQueue(sale.id, alias).length() for alias in shard_aliases())
    except QueueUnavailable:
        figures.unreachable.append("the queue")
    figures.answers = answers_of(sale.id)
    return figures


def refunded(sale: Sale) -> Decimal | None:
    """Return what was given back to the buyers of a sale; None while a shard is away."""
    try:
        total = sum((refunded_in_sale(alias, sale) for alias in shard_aliases()), Decimal(0))
    except OperationalError:
        return None
    return round_money(total, next(iter(sale.items.values())).currency)


def units_ledger(sale: Sale) -> list[LedgerRow] | None:
    """Prove where every unit went that left stock for the sale, by SKU and shard; None while a database is away.

    Of each shard: received = passed on to other shards + sold + left + returned to stock. Of all together, as stock has
    booked it: allotted = on their way + sold + left + come back. The two sides were written by different databases.
    """
    try:
        moves = [move for alias in (*inventory_aliases(), *shard_aliases()) for move in _moves(alias, sale)]
        shards = [row for alias in shard_aliases() for row in _ledger_of_shard(alias, sale, moves)]
        came_back = Counter[str]()
        for alias in inventory_aliases():
            came_back.update(received_units(alias, sale.id, list(sale.items)))
    except OperationalError:
        return None
    rows: list[LedgerRow] = []
    for sku in sale.items:
        parts = [row for row in shards if row.sku == sku]
        allotted = sum(move.units for move in moves if move.sku == sku and move.debtor == STOCK)
        on_their_way = sum(move.open_units for move in moves if move.sku == sku)
        sold, left = sum(row.sold for row in parts), sum(row.left for row in parts)
        rows += [*parts, LedgerRow(sku, STOCK, allotted, on_their_way, sold, left, came_back[sku])]
    return rows


def _moves(alias: str, sale: Sale) -> list[Moved]:
    return moved_units(alias, sale.id, list(sale.items))


def _ledger_of_shard(alias: str, sale: Sale, moves: list[Moved]) -> list[LedgerRow]:
    given: dict[tuple[str, bool], int] = defaultdict(int)
    for move in moves:
        if move.debtor == alias:
            given[move.sku, move.creditor == STOCK] += move.units
    received = received_units(alias, sale.id, list(sale.items))
    allotments = allotments_of(alias, [(sale.id, sku) for sku in sale.items])
    rows = []
    for sku in sale.items:
        allotment = allotments.get((sale.id, sku))
        sold, left = (0, 0) if allotment is None else (allotment.sold, allotment.unsold)
        rows.append(LedgerRow(sku, alias, received.get(sku, 0), given[sku, False], sold, left, given[sku, True]))
    return rows


def live_document(sale: Sale, *, now: datetime) -> dict[str, object]:
    """Return what the live page asks for every few seconds; it works out rates and percentiles from two answers."""
    figures = sale_figures(sale)
    names = ("left", "sold", "orders", "unpaid", "paid", "returned")
    return {
        "state": str(sale.state),
        "phase": str(sale.phase(now)),
        **{name: figures.total(name) for name in names},
        "items": {
            sku: {"left": item.left, "sold": item.sold, "sell_through": item.sell_through}
            for sku, item in figures.items.items()
        },
        "sell_through": figures.sell_through,
        "revenue": str(figures.revenue),
        "under_way": figures.under_way,
        "waiting": figures.waiting,
        "refusals": figures.answers.refusals(),
        "times": list(figures.answers.times().items()),
        "unreachable": figures.unreachable,
        "at": now.timestamp(),
    }
