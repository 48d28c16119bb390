"""Frozen values that cross the border of promotions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from msgspec import Struct

from apps.promotions.domain import CouponKind, Phase, SaleMode, SaleState, phase_of

STOCK: Final = "stock"
"""The name of normal stock as debtor or creditor of a transfer; the others are aliases of shards."""

CONSOLE: Final = 0
"""Stands for a staff account where a script on the server does something."""

ItemKey = tuple[int, str]
"""Sale and SKU: what an allotment is of."""


CouponKey = tuple[int, int]
"""User and coupon."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """One SKU of a sale that is to be made; `price` in the shop's currency, tax included."""

    sku: str
    price: Decimal
    quota: int
    per_user_limit: int


@dataclass(frozen=True, slots=True)
class NewSale:
    """A sale that is to be made."""

    name: str
    starts_at: datetime
    ends_at: datetime
    mode: SaleMode
    token_required: bool
    items: tuple[NewItem, ...]
    rehearsal: bool = False
    testers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SaleItem:
    """One SKU of a sale: its title and price are the sale's own, so that buying asks the catalog nothing."""

    sku: str
    title: str
    price: Decimal
    currency: str
    quota: int
    per_user_limit: int


@dataclass(frozen=True, slots=True)
class Sale:
    """A flash sale as this process knows it; `closed_at` is set once nothing of it is allotted or on its way."""

    id: int
    name: str
    starts_at: datetime
    ends_at: datetime
    mode: SaleMode
    token_required: bool
    state: SaleState
    version: int
    closed_at: datetime | None
    items: Mapping[str, SaleItem]
    approval_reason: str = ""
    shaped_by: tuple[int, ...] = ()
    approved_by: int | None = None
    approved_at: datetime | None = None
    rehearsal: bool = False
    testers: frozenset[int] = frozenset()

    @property
    def awaits_approval(self) -> bool:
        """Whether it must not sell before a second person has approved it."""
        return bool(self.approval_reason) and self.approved_by is None

    def phase(self, now: datetime) -> Phase:
        """Return what the sale is to a buyer now."""
        return phase_of(self.state, starts_at=self.starts_at, ends_at=self.ends_at, now=now)

    def is_shown_to(self, user_id: int | None, *, now: datetime) -> bool:
        """Tell whether a user (None: anybody) may know of it: no draft, and a rehearsal only for its testers."""
        if self.rehearsal and user_id not in self.testers:
            return False
        return self.phase(now) != Phase.HIDDEN


@dataclass(frozen=True, slots=True)
class Answers:
    """How often buyers of a sale got each answer, by class of time (upper bound in ms; 0: nobody waited for it)."""

    counts: Mapping[tuple[str, int], int]

    def totals(self) -> dict[str, int]:
        """Return how often each answer was given, the most frequent first."""
        totals: Counter[str] = Counter()
        for (answer, _), count in self.counts.items():
            totals[answer] += count
        return dict(totals.most_common())

    def refusals(self) -> dict[str, int]:
        """Return how often each refusal was given."""
        return {answer: count for answer, count in self.totals().items() if answer not in ("ordered", "queued")}

    def times(self) -> dict[int, int]:
        """Return how many of those who waited were answered in each class of time, ascending."""
        times: Counter[int] = Counter()
        for (_, took_ms), count in self.counts.items():
            if took_ms:
                times[took_ms] += count
        return dict(sorted(times.items()))


@dataclass(frozen=True, slots=True)
class Moved:
    """Units of an item that went from `debtor` to `creditor`: shards' aliases, or STOCK.

    `open_units` of them are still on their way, as far as the debtor knows.
    """

    sku: str
    debtor: str
    creditor: str
    units: int
    open_units: int


@dataclass(frozen=True, slots=True)
class Block:
    """Who may not buy: a user, or a network in CIDR notation; in one sale, or in all where `sale_id` is None.

    `blocked_by` and `lifted_by` are ids of staff accounts, or CONSOLE.
    """

    id: int
    sale_id: int | None
    user_id: int | None
    network: str
    reason: str
    blocked_by: int
    blocked_at: datetime
    lifted_by: int | None
    lifted_at: datetime | None


@dataclass(frozen=True, slots=True)
class SaleClaim:
    """What one order took from a sale; `state` is a `ClaimState`."""

    order_id: int
    user_id: int
    sale_id: int
    sku: str
    quantity: int
    state: int = 1

    @property
    def item(self) -> ItemKey:
        """Whose units they are."""
        return self.sale_id, self.sku


@dataclass(frozen=True, slots=True)
class Allotment:
    """What one shard may sell of an item, and has sold; `settled` of the sold units have left the stock."""

    alias: str
    sale_id: int
    sku: str
    quota: int
    sold: int
    settled: int
    closed: bool
    version: int

    @property
    def unsold(self) -> int:
        """Units that can be bought here."""
        return self.quota - self.sold


@dataclass(frozen=True, slots=True)
class Transfer:
    """Units on their way from a debtor, who has given them up, to a creditor, who may have them already.

    `alias` is the database that holds the transfer's row: the debtor's. `creditor` is a shard's alias or STOCK.
    """

    id: int
    alias: str
    creditor: str
    sale_id: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the queue of a sale: whose, and for which request (`digest` of method, path and key).

    `issued_ms` is the time of issue in milliseconds since 1970.
    """

    sale_id: int
    user_id: int
    digest: bytes
    issued_ms: int

    @property
    def issued_at(self) -> datetime:
        """When it was issued."""
        return datetime.fromtimestamp(self.issued_ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class TicketEnd:
    """How a ticket ended: `order_id`, or the `code` of a refusal."""

    ticket: Ticket
    order_id: int | None
    code: str


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """What waits in the queue of a sale: a ticket, and the request that it stands for."""

    ticket: Ticket
    body_digest: bytes
    sku: str
    quantity: int
    address_id: int
    exempt: bool


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a ticket waits; `is_new` when it was queued just now, else an earlier request with its key was."""

    ticket: Ticket
    body_digest: bytes
    position: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class CouponTerms:
    """What a coupon takes off and of what; fixed once its template is made. Money is in `currency`.

    `amount` or `percent` (of 100) counts by the kind, `max_discount` caps a percentage. The goods that it is for must
    come to `threshold` at least. No categories (slugs), products (ids) and SKUs at all: it is for all goods.
    """

    kind: CouponKind
    currency: str
    amount: Decimal = Decimal(0)
    percent: Decimal = Decimal(0)
    max_discount: Decimal | None = None
    threshold: Decimal = Decimal(0)
    categories: frozenset[str] = frozenset()
    products: frozenset[int] = frozenset()
    skus: frozenset[str] = frozenset()
    stackable: bool = False

    @property
    def is_for_all(self) -> bool:
        """Whether it is for all goods."""
        return not (self.categories or self.products or self.skus)

    def covers(self, *, sku: str, product_id: int, category: str) -> bool:
        """Tell whether it is for these goods."""
        return self.is_for_all or sku in self.skus or product_id in self.products or category in self.categories


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A coupon template that is to be made."""

    name: str
    terms: CouponTerms
    starts_at: datetime
    ends_at: datetime
    valid_days: int | None = None
    total_limit: int | None = None
    per_user_limit: int = 1
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class Template:
    """A coupon template as this process knows it; claimed and used between `starts_at` and `ends_at`.

    `valid_days`: a coupon ends so long after its claim, if that is sooner. `total_limit` None: no limit.
    """

    id: int
    name: str
    terms: CouponTerms
    starts_at: datetime
    ends_at: datetime
    valid_days: int | None
    total_limit: int | None
    per_user_limit: int
    is_listed: bool
    is_active: bool
    claimed_count: int

    @property
    def left(self) -> int | None:
        """How many can still be claimed; None without a limit."""
        return None if self.total_limit is None else max(self.total_limit - self.claimed_count, 0)

    def is_claimable(self, now: datetime) -> bool:
        """Tell whether a shopper who has none can claim one now, by what this process knows."""
        return self.is_active and self.is_listed and self.starts_at <= now < self.ends_at and self.left != 0


class HeldCoupon(Struct, frozen=True):
    """A coupon of a user as its row says; `state` is a `HeldCouponState`."""

    id: int
    user_id: int
    template_id: int
    state: int
    order_id: int | None
    discount: Decimal
    claimed_at: datetime
    expires_at: datetime


class Redemption(Struct, frozen=True):
    """That an order takes a coupon, which takes `discount` off its goods."""

    coupon_id: int
    user_id: int
    order_id: int
    discount: Decimal


@dataclass(frozen=True, slots=True)
class ClaimedCoupon:
    """What a claim ends in; `replayed` when an earlier request with the same key has made it."""

    coupon_id: int
    replayed: bool
