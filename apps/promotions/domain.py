"""Pure rules of flash sales and coupons: phases, transitions, how units are shared out. No I/O, no Django."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final


class SaleMode(StrEnum):
    """How a sale takes orders: each at once, or through a queue that answers with tickets."""

    DIRECT = "direct"
    QUEUED = "queued"


class SaleState(StrEnum):
    """Where the staff have brought a sale. `ended` and `cancelled` are final."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a sale is to a buyer at a moment: its state and the clock together."""

    HIDDEN = "hidden"
    UPCOMING = "upcoming"
    OPEN = "open"
    PAUSED = "paused"
    OVER = "over"


ALLOWED_TRANSITIONS: Final[Mapping[SaleState, frozenset[SaleState]]] = {
    SaleState.DRAFT: frozenset({SaleState.SCHEDULED, SaleState.CANCELLED}),
    SaleState.SCHEDULED: frozenset({SaleState.RUNNING, SaleState.PAUSED, SaleState.ENDED, SaleState.CANCELLED}),
    SaleState.RUNNING: frozenset({SaleState.PAUSED, SaleState.ENDED, SaleState.CANCELLED}),
    SaleState.PAUSED: frozenset({SaleState.SCHEDULED, SaleState.RUNNING, SaleState.ENDED, SaleState.CANCELLED}),
    SaleState.ENDED: frozenset(),
    SaleState.CANCELLED: frozenset(),
}
LIVE_STATES: Final = (SaleState.SCHEDULED, SaleState.RUNNING, SaleState.PAUSED)


def phase_of(state: SaleState, *, starts_at: datetime, ends_at: datetime, now: datetime) -> Phase:
    """Return what the sale is to a buyer now; it begins at `starts_at` and is over at `ends_at`, to the instant."""
    if state == SaleState.DRAFT:
        return Phase.HIDDEN
    if state in (SaleState.ENDED, SaleState.CANCELLED) or now >= ends_at:
        return Phase.OVER
    if now < starts_at:
        return Phase.UPCOMING
    return Phase.PAUSED if state == SaleState.PAUSED else Phase.OPEN


def approval_reasons(
    terms: Iterable[tuple[str, Decimal, Decimal, int]], *, min_price_percent: int, max_worth: int
) -> list[str]:
    """Tell why a sale has to be approved by a second person; empty where it need not be.

    `terms` are (SKU, price in the sale, the catalog's price, quota). A price has to be approved below
    `min_price_percent` of the catalog's, a sale whose units are worth more than `max_worth` at the catalog's prices;
    0 turns either bound off.
    """
    reasons = []
    worth = Decimal(0)
    for sku, price, usual_price, quota in terms:
        worth += usual_price * quota
        if price * 100 < usual_price * min_price_percent:
            percent = int(price * 100 / usual_price)
            reasons.append(f"{sku}: {price} is {percent} % of {usual_price}")
    if max_worth and worth > max_worth:
        reasons.append(f"the units are worth {worth}, more than {max_worth}")
    return reasons


def block_key(*, user_id: int | None, network: str, sale_id: int | None) -> str:
    """Return what names a block while it is in force: whom, and where."""
    return f"{network or f'user {user_id}'} in {'all' if sale_id is None else sale_id}"


class Blocklist:
    """Who may not buy: looked up by user and by address, at a cost that hardly grows with the number of blocks.

    `blocks` are (sale or None for all, user or None, network in CIDR notation or "").
    """

    def __init__(self, blocks: Iterable[tuple[int | None, int | None, str]] = ()) -> None:
        self._users: dict[int, set[int | None]] = {}
        # By IP version and prefix length, then by the prefix.
        self._networks: dict[tuple[int, int], dict[int, set[int | None]]] = {}
        for sale_id, user_id, text in blocks:
            if user_id is not None:
                self._users.setdefault(user_id, set()).add(sale_id)
                continue
            network = ip_network(text)
            kind = network.version, network.prefixlen
            prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._networks.setdefault(kind, {}).setdefault(prefix, set()).add(sale_id)

    def covers(self, *, sale_id: int, user_id: int, address: str) -> bool:
        """Tell whether a user at an address (empty: not known) is blocked in a sale."""
        sales = self._users.get(user_id)
        if sales is not None and (None in sales or sale_id in sales):
            return True
        if not self._networks or not address:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number, bits = int(parsed), parsed.max_prefixlen
        for (version, length), prefixes in self._networks.items():
            if version == parsed.version:
                sales = prefixes.get(number >> (bits - length))
                if sales is not None and (None in sales or sale_id in sales):
                    return True
        return False


def shares(units: int, parts: int) -> list[int]:
    """Share units out evenly; what does not divide goes to the first parts, one each."""
    whole, rest = divmod(units, parts)
    return [whole + 1 if number < rest else whole for number in range(parts)]


def units_to_draw(*, unsold: int, needed: int) -> int:
    """Return how many units a dry shard draws from one with `unsold`: half, or more if more are needed, never all
    that it does not have.

    Half, so that a sale whose buyers are unevenly spread needs few transfers, and does not swap its units to and fro.
    """
    return min(unsold, max(needed, unsold // 2))


def served_in_order(wanted: Sequence[int], *, left: int) -> list[bool]:
    """Tell who gets what they want: first come, first served, and a later smaller wish may still fit."""
    served = []
    for units in wanted:
        served.append(units <= left)
        if units <= left:
            left -= units
    return served


class CouponKind(StrEnum):
    """What a coupon takes off: an amount, a share of the price, or the fee for shipping."""

    AMOUNT = "amount"
    PERCENT = "percent"
    FREE_SHIPPING = "free_shipping"


class CouponState(StrEnum):
    """What a coupon is to its owner."""

    HELD = "held"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


MAX_SCOPE: Final = 500
MAX_PER_USER: Final = 100
MAX_TOTAL: Final = 1_000_000_000
MAX_VALID_DAYS: Final = 3650


def coupon_expiry(*, ends_at: datetime, valid_days: int | None, claimed_at: datetime) -> datetime:
    """Return until when a coupon that is claimed now can be used: its template's end, or so many days if sooner."""
    if valid_days is None:
        return ends_at
    return min(ends_at, claimed_at + timedelta(days=valid_days))


def first_free(taken: Iterable[int], *, limit: int) -> int | None:
    """Return the lowest number from 1 to the limit that is not taken, or None."""
    known = set(taken)
    return next((number for number in range(1, limit + 1) if number not in known), None)
