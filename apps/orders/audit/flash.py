"""Flash sales: allotments against transfers and claims, claims against orders, and all of it against the stock."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.conf import settings

from apps.inventory.places import inventory_aliases, place_of_sku
from apps.orders.audit.findings import BACKLOG_BOUND_S, CLOSED_STOCK_BOUND_S, Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch, months_of, sql_time, utc
from apps.orders.domain import OrderStatus, StockTarget, stock_target
from apps.orders.models import OrderKind
from apps.orders.services.flash_sales import sweep_sales
from apps.orders.services.flash_transfers import resume_transfers
from apps.orders.services.stock import sync_stock_of
from apps.promotions.domain import LIVE_STATES, SaleState
from apps.promotions.models import ClaimState, TransferState
from apps.promotions.types import STOCK, ItemKey
from infra.sharding.places import shard_aliases

_LOOKS: Final = 5
_NOT_RETURNED: Final = f"state <> {ClaimState.RETURNED:d}"


def allotments_within_bounds(alias: str, now: datetime) -> Iterator[Finding]:
    """`settled <= sold <= quota` for every allotment, and a closed one has nothing left."""
    for sale_id, sku, quota, sold, settled, closed in fetch(
        alias,
        "SELECT sale_id, sku, quota, sold, settled, closed FROM promotions_allotment "
        f"WHERE sold > quota OR settled > sold OR settled < 0 OR (closed AND sold <> quota) LIMIT {MAX_FINDINGS}",
    ):
        what = "closed, " if closed else ""
        yield _of_item(alias, (sale_id, sku), f"{what}sold {sold} of {quota}, settled {settled}", part="bounds")


def quotas_are_what_was_transferred(alias: str, now: datetime) -> Iterator[Finding]:
    """The quota of each allotment is what was received for it less what was given up."""
    kept = _kept()
    for sale_id, sku, quota, received, given in fetch(
        alias,
        "SELECT sale_id, sku, SUM(quota), SUM(received), SUM(given) FROM ("
        "SELECT sale_id, sku, quota, 0 AS received, 0 AS given FROM promotions_allotment UNION ALL "
        "SELECT sale_id, sku, 0, quantity, 0 FROM promotions_receipt UNION ALL "
        "SELECT sale_id, sku, 0, 0, quantity FROM promotions_transfer) moves "
        f"WHERE {kept} GROUP BY sale_id, sku HAVING SUM(quota) <> SUM(received) - SUM(given) LIMIT {MAX_FINDINGS}",
    ):
        yield _of_item(alias, (sale_id, sku), f"quota {quota}; received {received}, gave {given}", part="transfers")


def sold_is_what_is_claimed(alias: str, now: datetime) -> Iterator[Finding]:
    """`sold` and `settled` of each allotment are the sums of its claims."""
    settled = f"SUM(IF(state = {ClaimState.SETTLED:d}, quantity, 0))"
    for sale_id, sku, sold, claimed, booked, settled_units in fetch(
        alias,
        "SELECT sale_id, sku, SUM(sold), SUM(claimed), SUM(booked), SUM(settled_units) FROM ("
        "SELECT sale_id, sku, sold, 0 AS claimed, settled AS booked, 0 AS settled_units FROM promotions_allotment "
        f"UNION ALL SELECT sale_id, sku, 0, SUM(quantity), 0, {settled} FROM promotions_claim WHERE {_NOT_RETURNED} "
        f"GROUP BY sale_id, sku) sides WHERE {_kept()} GROUP BY sale_id, sku "
        f"HAVING SUM(sold) <> SUM(claimed) OR SUM(booked) <> SUM(settled_units) LIMIT {MAX_FINDINGS}",
    ):
        detail = f"sold {sold}, claimed {claimed}; settled {booked}, settled claims {settled_units}"
        yield _of_item(alias, (sale_id, sku), detail, part="claims")


def purchases_are_what_is_claimed(alias: str, now: datetime) -> Iterator[Finding]:
    """What each buyer has bought is the sum of their claims, and within the item's limit."""
    for sale_id, sku, user_id, bought, claimed in fetch(
        alias,
        "SELECT sale_id, sku, user_id, SUM(bought), SUM(claimed) FROM ("
        "SELECT slot, sale_id, sku, user_id, bought, 0 AS claimed FROM promotions_purchase UNION ALL "
        f"SELECT slot, sale_id, sku, user_id, 0, quantity FROM promotions_claim WHERE {_NOT_RETURNED}) sides "
        f"WHERE {_kept()} GROUP BY slot, sale_id, sku, user_id HAVING SUM(bought) <> SUM(claimed) LIMIT {MAX_FINDINGS}",
    ):
        yield Finding(
            "flash sales",
            alias,
            f"user {user_id}, {sku} of sale {sale_id}",
            f"bought {bought}, but their claims are {claimed}",
        )
    limits = fetch("promotions", "SELECT sale_id, sku, per_user_limit FROM promotions_item")
    highest = fetch(alias, "SELECT sale_id, sku, MAX(bought) FROM promotions_purchase GROUP BY sale_id, sku")
    limit_of: Mapping[ItemKey, int] = {(sale_id, sku): limit for sale_id, sku, limit in limits}
    for sale_id, sku, bought in highest:
        limit = limit_of.get((sale_id, sku))
        if limit is None:
            yield _of_item(alias, (sale_id, sku), "bought, but no sale has this item", part="item")
        elif bought > limit:
            yield _of_item(alias, (sale_id, sku), f"somebody bought {bought}, the limit is {limit}", part="limit")


def claims_agree_with_orders(alias: str, now: datetime) -> Iterator[Finding]:
    """Each claim has its order with the same line, and has followed the order's state."""
    holding, given_back = (
        ", ".join(f"'{status}'" for status in OrderStatus if stock_target(status) in targets)
        for targets in (
            {StockTarget.HOLD},
            {StockTarget.RELEASE, StockTarget.RETURN},
        )
    )
    for month in months_of(alias):
        rows = fetch(
            alias,
            "SELECT c.order_id, c.state, c.quantity, c.sku, c.updated_at, o.status, o.updated_at, "
            "l.sku = c.sku AND l.quantity = c.quantity AND o.user_id = c.user_id "
            "FROM promotions_claim c "
            f"LEFT JOIN {month.order} o ON o.slot = c.slot AND o.id = c.order_id AND o.kind = {OrderKind.REAL:d} "
            f"LEFT JOIN {month.line} l ON l.slot = c.slot AND l.order_id = c.order_id AND l.line = 1 "
            "WHERE c.order_id >= %s AND c.order_id < %s AND (o.id IS NULL OR l.sku IS NULL OR l.sku <> c.sku "
            "OR l.quantity <> c.quantity OR o.user_id <> c.user_id "
            f"OR (c.state = {ClaimState.HELD:d} AND o.status NOT IN ({holding})) "
            f"OR c.state = {ClaimState.SETTLING:d} "
            f"OR (c.state = {ClaimState.SETTLED:d} AND o.status IN ({holding}, 'cancelled', 'expired')) "
            f"OR (c.state = {ClaimState.RETURNED:d} AND o.status NOT IN ({given_back}))) LIMIT {MAX_FINDINGS}",
            [month.month.first_id, month.month.next().first_id],
        )
        for order_id, state, quantity, sku, changed_at, status, ordered_at, is_same in rows:
            yield _judge(
                alias,
                order_id,
                state=state,
                what=f"{quantity} {sku}",
                status=status,
                is_same=is_same,
                since=_latest(changed_at, ordered_at),
            )


def _judge(
    alias: str, order_id: int, *, state: int, what: str, status: str | None, is_same: object, since: datetime | None
) -> Finding:
    word = ClaimState(state).label
    subject = f"claim of order {order_id}"
    if status is None:
        return Finding("flash sales", alias, subject, f"{what} are {word} for no order")
    if not is_same:
        return Finding("flash sales", alias, subject, f"{what} are {word}, which is not what the order says")
    if state in (ClaimState.HELD, ClaimState.SETTLING):
        return Finding(
            "flash sales",
            alias,
            subject,
            f"{status}, and its units are still {word}",
            since=since,
            bound_s=CLOSED_STOCK_BOUND_S,
            mend=partial(_sync, order_id),
        )
    return Finding("flash sales", alias, subject, f"{status}, and its units are {word}")


def tickets_agree_with_orders(alias: str, now: datetime) -> Iterator[Finding]:
    """Each ticket that ended as an order has that order in its sale, and none ended as both or neither."""
    for user_id, order_id, code, claimed in fetch(
        alias,
        "SELECT t.user_id, t.order_id, t.code, c.order_id FROM promotions_ticket t "
        "LEFT JOIN promotions_claim c ON c.slot = t.slot AND c.order_id = t.order_id "
        "AND c.user_id = t.user_id AND c.sale_id = t.sale_id "
        "WHERE (t.order_id IS NULL AND t.code = '') OR (t.order_id IS NOT NULL AND (t.code <> '' OR c.slot IS NULL)) "
        f"LIMIT {MAX_FINDINGS}",
    ):
        ended = f"order {order_id}" if order_id is not None else "no order"
        what = f"{ended} and {code!r}" if claimed is not None or order_id is None else f"{ended}, which is not there"
        yield Finding("flash sales", alias, f"ticket of user {user_id}, {order_id}", f"ended as {what}")


def transfers_end(alias: str, now: datetime) -> Iterator[Finding]:
    """No transfer is open for long."""
    for transfer_id, sku, quantity, creditor, created_at in fetch(
        alias,
        "SELECT id, sku, quantity, creditor, created_at FROM promotions_transfer "
        f"WHERE state = {TransferState.OPEN:d} ORDER BY created_at LIMIT {MAX_FINDINGS}",
    ):
        yield Finding(
            "flash sales",
            alias,
            f"transfer {transfer_id}",
            f"{quantity} {sku} are on their way to {creditor} since {created_at:%Y-%m-%d %H:%M:%S}",
            since=utc(created_at),
            bound_s=BACKLOG_BOUND_S,
            mend=_resume,
        )


def transfers_have_their_receipts(_: str, now: datetime) -> Iterator[Finding]:
    """Each finished transfer has its receipt with the same units, and each receipt its transfer.

    Compared by sums for each creditor and item; only where they differ are the rows read.
    """
    # Receipts first: a receipt that is seen has had its transfer before.
    received = _sums("promotions_receipt")
    given = _sums("promotions_transfer")
    for place, item in sorted(key for key in received.keys() | given.keys() if received.get(key) != given.get(key)):
        yield from _compare(place, item)


def _sums(table: str) -> dict[tuple[str, ItemKey], tuple[int, int, int]]:
    """Return count, units and checksum of rows by the place that is (or says it is) the creditor, and item."""
    sums: dict[tuple[str, ItemKey], tuple[int, int, int]] = {}
    column = "creditor" if table == "promotions_transfer" else "''"
    for alias in (*inventory_aliases(), *shard_aliases()):
        for creditor, sale_id, sku, count, units, checksum in fetch(
            alias,
            f"SELECT {column}, sale_id, sku, COUNT(*), SUM(quantity), SUM(CRC32(CONCAT(id, ':', quantity))) "
            f"FROM {table} WHERE {_kept()} GROUP BY 1, 2, 3",
        ):
            key = _creditor_alias(creditor, sku) if creditor else alias, (sale_id, sku)
            known = sums.get(key, (0, 0, 0))
            sums[key] = known[0] + count, known[1] + int(units), known[2] + int(checksum)
    return sums


def _compare(place: str, item: ItemKey) -> Iterator[Finding]:
    sql = "SELECT id, quantity FROM promotions_receipt WHERE sale_id = %s AND sku = %s"
    received = dict(fetch(place, sql, item))
    given: dict[int, tuple[str, int, int]] = {}
    for alias in (*inventory_aliases(), *shard_aliases()):
        for transfer_id, quantity, state, creditor in fetch(
            alias,
            "SELECT id, quantity, state, creditor FROM promotions_transfer WHERE sale_id = %s AND sku = %s",
            item,
        ):
            if _creditor_alias(creditor, item[1]) == place:
                given[transfer_id] = alias, quantity, state
    for transfer_id, quantity in received.items():
        if transfer_id not in given:
            yield Finding("flash sales", place, f"receipt {transfer_id}", f"{quantity} {item[1]} that nobody gave")
        elif given[transfer_id][1] != quantity:
            detail = f"{quantity} {item[1]}, but {given[transfer_id][1]} were given"
            yield Finding("flash sales", place, f"receipt {transfer_id}", detail)
    for transfer_id, (alias, quantity, state) in given.items():
        if transfer_id not in received and state == TransferState.DONE:
            detail = f"{quantity} {item[1]} are said to have come to {place}, and have not"
            yield Finding("flash sales", alias, f"transfer {transfer_id}", detail)


def _creditor_alias(creditor: str, sku: str) -> str:
    return place_of_sku(sku) if creditor == STOCK else creditor


@dataclass(frozen=True, slots=True)
class _Allotted:
    """What the shards and the open transfers say of one SKU's allotted units."""

    unsettled: int = 0
    settling: int = 0
    moving: int = 0


def allotted_is_what_the_shards_have(_: str, now: datetime) -> Iterator[Finding]:
    """`allotted` of each SKU is what all allotments hold that is not settled, and what is on its way.

    Two kinds of databases without a common snapshot: what is being settled or moved may have left or arrived already,
    and is let pass either way (that it ends is another check). The shards are read before and after the stock, and a
    SKU that moved meanwhile counts as in flight.
    """
    for _look in range(_LOOKS):
        before = _on_shards()
        stock: dict[str, int] = {}
        for alias in inventory_aliases():
            stock |= dict(fetch(alias, "SELECT sku, allotted FROM inventory_stock WHERE allotted <> 0"))
        after = _on_shards()
        if before == after:
            break
    for sku in sorted(stock.keys() | after.keys()):
        shards, allotted = after.get(sku, _Allotted()), stock.get(sku, 0)
        if not shards.unsettled - shards.settling <= allotted <= shards.unsettled + shards.moving:
            yield Finding(
                "flash sales",
                place_of_sku(sku),
                f"SKU {sku}, allotted",
                f"the counter says {allotted}; the shards hold {shards.unsettled}, {shards.settling} of them are being "
                f"settled, and {shards.moving} are on their way",
                since=now if before.get(sku) != after.get(sku) else None,
                bound_s=BACKLOG_BOUND_S,
            )


def _on_shards() -> dict[str, _Allotted]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for alias in shard_aliases():
        for sku, unsettled, settling, moving in fetch(
            alias,
            "SELECT sku, SUM(unsettled), SUM(settling), SUM(moving) FROM ("
            "SELECT sku, quota - settled AS unsettled, 0 AS settling, 0 AS moving FROM promotions_allotment UNION ALL "
            f"SELECT sku, 0, quantity, 0 FROM promotions_claim WHERE state = {ClaimState.SETTLING:d} UNION ALL "
            f"SELECT sku, 0, 0, quantity FROM promotions_transfer WHERE state = {TransferState.OPEN:d}) sides "
            "GROUP BY sku",
        ):
            _add(totals[sku], (unsettled, settling, moving))
    for alias in inventory_aliases():
        for sku, moving in fetch(
            alias,
            f"SELECT sku, SUM(quantity) FROM promotions_transfer WHERE state = {TransferState.OPEN:d} GROUP BY sku",
        ):
            _add(totals[sku], (0, 0, moving))
    return {sku: _Allotted(*figures) for sku, figures in totals.items()}


def _add(totals: list[int], figures: tuple[Any, Any, Any]) -> None:
    for number, figure in enumerate(figures):
        totals[number] += int(figure)


def sales_end_in_time(_: str, now: datetime) -> Iterator[Finding]:
    """No sale outlives its end, and one that is closed has no open allotment."""
    live = ", ".join(f"'{state}'" for state in LIVE_STATES)
    for sale_id, state, ends_at, updated_at in fetch(
        "promotions",
        "SELECT id, state, ends_at, updated_at FROM promotions_sale "
        f"WHERE (state IN ({live}) AND ends_at < %s) OR (state = '{SaleState.CANCELLED}' AND closed_at IS NULL) "
        f"LIMIT {MAX_FINDINGS}",
        [sql_time(now)],
    ):
        over_at = utc(updated_at if state == SaleState.CANCELLED else ends_at)
        yield Finding(
            "flash sales",
            "promotions",
            f"sale {sale_id}",
            f"{state}, and not closed since {over_at:%Y-%m-%d %H:%M:%S}",
            since=over_at,
            bound_s=BACKLOG_BOUND_S,
            mend=_sweep,
        )
    recent = now - timedelta(days=settings.INVENTORY_MOVEMENT_RETENTION_DAYS)
    closed = {
        sale_id
        for (sale_id,) in fetch("promotions", "SELECT id FROM promotions_sale WHERE closed_at > %s", [sql_time(recent)])
    }
    for alias in shard_aliases():
        for sale_id, sku in fetch(alias, "SELECT sale_id, sku FROM promotions_allotment WHERE NOT closed"):
            if sale_id in closed:
                yield _of_item(alias, (sale_id, sku), "open, though the sale is closed", part="open")


def _kept() -> str:
    """Return the condition on `sale_id` that leaves out sales whose rows are being cleared, table by table."""
    rows = fetch("promotions", "SELECT id FROM promotions_sale WHERE purging_since IS NOT NULL AND purged_at IS NULL")
    return f"sale_id NOT IN ({', '.join(str(sale_id) for (sale_id,) in rows)})" if rows else "TRUE"


def _latest(*times: datetime | None) -> datetime | None:
    """Return the latest of the times that are known, in UTC."""
    return max((at for each in times if (at := utc(each)) is not None), default=None)


def _of_item(alias: str, item: ItemKey, detail: str, *, part: str) -> Finding:
    return Finding("flash sales", alias, f"{item[1]} of sale {item[0]}, {part}", detail)


def _sync(order_id: int, now: datetime) -> None:
    sync_stock_of([order_id], now=now)


def _resume(now: datetime) -> None:
    resume_transfers(now=now)


def _sweep(now: datetime) -> None:
    sweep_sales(now=now)
