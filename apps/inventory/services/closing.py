"""What becomes of reservations: confirmed, released, settled, restocked, each once, in batches."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction

from apps.inventory import locks, places, statements
from apps.inventory.errors import StockMismatch
from apps.inventory.models import Movement, MovementKind, ReservationState
from infra.mysql.retry import with_deadlock_retry

# Orders in one transaction: enough to make round trips cheap, few enough that buyers wait only milliseconds.
BATCH_SIZE: Final = 200
_OPEN: Final = (ReservationState.HELD, ReservationState.CONFIRMED)


@dataclass(frozen=True, slots=True)
class _Transition:
    """A step of reservations and what it does to the counters of their SKUs."""

    from_states: tuple[ReservationState, ...]
    to_state: ReservationState
    move_counters: Callable[[str, Mapping[str, int]], int]
    movement: MovementKind | None = None
    sign: int = 1


_RELEASE: Final = _Transition(_OPEN, ReservationState.RELEASED, statements.take_reserved)
_SETTLE: Final = _Transition(
    _OPEN, ReservationState.SETTLED, statements.take_reserved_and_on_hand, MovementKind.DEDUCTION, sign=-1
)
_RESTOCK: Final = _Transition(
    (ReservationState.SETTLED,), ReservationState.RESTOCKED, statements.add_on_hand, MovementKind.RESTOCK
)


def confirm(order_ids: Collection[int], *, now: datetime) -> int:
    """Mark holds whose order exists, so that nobody looks for it again; return how many rows (SKUs) moved.

    Idempotent: what is not `held` is left as it is.
    """
    confirmed = 0
    for alias in places.inventory_aliases():
        for batch in _batches(order_ids):
            confirmed += with_deadlock_retry(partial(_confirm_batch, alias, batch, now))
    return confirmed


def release(order_ids: Collection[int], *, now: datetime) -> int:
    """Give back what open reservations hold; return how many orders had one.

    Idempotent: closed reservations and unknown orders are left as they are, and nothing is released twice. Raises
    StockMismatch, after all other orders are done, for orders whose SKU's counters do not cover them.

    Concurrency: compare-and-set under the rows' locks; against settle, whichever comes first wins.
    """
    return _advance(_RELEASE, order_ids, now=now)


def settle(order_ids: Collection[int], *, now: datetime) -> int:
    """Deduct what open reservations hold from the stock for good; return how many orders had one.

    Promises and errors as for `release`; writes a movement a line.
    """
    return _advance(_SETTLE, order_ids, now=now)


def restock(order_ids: Collection[int], *, now: datetime) -> int:
    """Take back what settled reservations deducted and has not come back yet; return how many orders had one.

    Promises and errors as for `release`; writes a movement a line.
    """
    return _advance(_RESTOCK, order_ids, now=now)


def restock_units(returned: Mapping[int, Mapping[str, int]], *, now: datetime) -> int:
    """Take single units of settled reservations back into stock, up to so many of each order's SKUs in all.

    Returns how many units came back by this call. State-based: what has come back by then is not counted twice, and
    open or closed reservations are left as they are. Raises StockMismatch for more units than were reserved.
    Concurrency: under the rows' locks, like `restock`, which takes back the rest.
    """
    units_back = 0
    order_ids = [order_id for order_id, units in returned.items() if units]
    for alias in places.inventory_aliases():
        for batch in _batches(order_ids):
            wanted = {order_id: returned[order_id] for order_id in batch}
            units_back += with_deadlock_retry(partial(_restock_units, alias, wanted, now))
    return units_back


def _restock_units(alias: str, returned: Mapping[int, Mapping[str, int]], now: datetime) -> int:
    with transaction.atomic(using=alias):
        units: Counter[str] = Counter()
        moves: list[tuple[locks.LockedReservation, int]] = []
        for row in locks.lock_reservations(alias, returned):
            in_all = returned[row.order_id].get(row.sku, 0)
            if row.state != ReservationState.SETTLED or in_all <= row.returned:
                continue
            if in_all > row.quantity:
                raise StockMismatch([row.order_id])
            moves.append((row, in_all - row.returned))
            units[row.sku] += in_all - row.returned
            statements.set_returned(alias, row.order_id, row.sku, in_all, now=now)
        if not moves:
            return 0
        if statements.add_on_hand(alias, units) != len(units):
            raise StockMismatch({row.order_id for row, _ in moves})
        Movement.objects.using(alias).bulk_create(
            Movement(
                sku=row.sku,
                kind=MovementKind.RESTOCK,
                quantity=count,
                reason="a part of the order",
                actor="system",
                order_id=row.order_id,
                at=now,
            )
            for row, count in moves
        )
        return units.total()


def _advance(transition: _Transition, order_ids: Collection[int], *, now: datetime) -> int:
    moved = 0
    mismatched: list[int] = []
    for alias in places.inventory_aliases():
        for batch in _batches(order_ids):
            try:
                moved += with_deadlock_retry(partial(_advance_batch, transition, alias, batch, now))
            except StockMismatch:
                for order_id in batch:  # one damaged SKU must not keep the stock of all the others
                    try:
                        moved += with_deadlock_retry(partial(_advance_batch, transition, alias, [order_id], now))
                    except StockMismatch:
                        mismatched.append(order_id)
    if mismatched:
        raise StockMismatch(mismatched)
    return moved


def _advance_batch(transition: _Transition, alias: str, order_ids: Sequence[int], now: datetime) -> int:
    with transaction.atomic(using=alias):
        rows = [row for row in locks.lock_reservations(alias, order_ids) if row.state in transition.from_states]
        if not rows:
            return 0
        units: Counter[str] = Counter()
        for row in rows:
            units[row.sku] += row.quantity - row.returned
        if transition.move_counters(alias, units) != len(units):
            raise StockMismatch(order_ids)
        orders = {row.order_id for row in rows}
        statements.change_state(
            alias, orders, from_states=transition.from_states, to_state=transition.to_state, now=now
        )
        if transition.movement is not None:
            Movement.objects.using(alias).bulk_create(
                Movement(
                    sku=row.sku,
                    kind=transition.movement,
                    quantity=transition.sign * (row.quantity - row.returned),
                    actor="system",
                    order_id=row.order_id,
                    at=now,
                )
                for row in rows
                if row.quantity > row.returned
            )
        return len(orders)


def _confirm_batch(alias: str, order_ids: Sequence[int], now: datetime) -> int:
    with transaction.atomic(using=alias):
        return statements.change_state(
            alias,
            order_ids,
            from_states=(ReservationState.HELD,),
            to_state=ReservationState.CONFIRMED,
            now=now,
        )


def _batches(order_ids: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(set(order_ids))
    for start in range(0, len(ordered), BATCH_SIZE):
        yield ordered[start : start + BATCH_SIZE]
