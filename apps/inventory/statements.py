"""The hot statements of inventory, written as SQL: one round trip for a whole batch.

They run inside the caller's transaction and return what the server counted; callers decide what that means.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.db import connections

from apps.inventory.models import ReservationState
from apps.inventory.types import Claim
from infra.mysql.literals import binary, moment, word
from infra.sharding.ids import slot_of


def add_reserved(alias: str, quantities: Mapping[str, int]) -> int:
    """Raise `reserved` of every SKU that has enough left; return how many had.

    Fewer than asked means that some SKU is short or unknown: the caller must roll back.
    """
    return _move_counters(
        alias,
        quantities,
        changes="reserved = reserved + {units}",
        guard="on_hand >= reserved + allotted + {units}",
    )


def add_reserved_at_version(alias: str, sku: str, units: int, *, version: int) -> int:
    """Raise `reserved` of a SKU as `add_reserved` does, if nobody has written its row since that version; 1 or 0."""
    return _move_counters(
        alias,
        {sku: units},
        changes="reserved = reserved + {units}",
        guard=f"version = {version:d} AND on_hand >= reserved + allotted + {{units}}",
    )


def take_reserved(alias: str, quantities: Mapping[str, int]) -> int:
    """Lower `reserved`; return how many SKUs had that much reserved."""
    return _move_counters(alias, quantities, changes="reserved = reserved - {units}", guard="reserved >= {units}")


def take_reserved_and_on_hand(alias: str, quantities: Mapping[str, int]) -> int:
    """Lower `reserved` and `on_hand` alike; return how many SKUs had that much of both."""
    return _move_counters(
        alias,
        quantities,
        changes="reserved = reserved - {units}, on_hand = on_hand - {units}",
        guard="reserved >= {units} AND on_hand >= {units}",
    )


def add_on_hand(alias: str, quantities: Mapping[str, int]) -> int:
    """Raise `on_hand`; return how many SKUs there are."""
    return _move_counters(alias, quantities, changes="on_hand = on_hand + {units}", guard="TRUE")


def add_allotted(alias: str, quantities: Mapping[str, int]) -> int:
    """Raise `allotted` of every SKU that has enough left; return how many had."""
    return _move_counters(
        alias,
        quantities,
        changes="allotted = allotted + {units}",
        guard="on_hand >= reserved + allotted + {units}",
    )


def take_allotted(alias: str, quantities: Mapping[str, int]) -> int:
    """Lower `allotted`; return how many SKUs had that much allotted."""
    return _move_counters(alias, quantities, changes="allotted = allotted - {units}", guard="allotted >= {units}")


def take_allotted_and_on_hand(alias: str, quantities: Mapping[str, int]) -> int:
    """Lower `allotted` and `on_hand` alike; return how many SKUs had that much of both."""
    return _move_counters(
        alias,
        quantities,
        changes="allotted = allotted - {units}, on_hand = on_hand - {units}",
        guard="allotted >= {units} AND on_hand >= {units}",
    )


def insert_reservations(
    alias: str, claims: Sequence[Claim], *, now: datetime, state: ReservationState = ReservationState.HELD
) -> None:
    """Insert the claims' rows, as held by default. Raises IntegrityError (1062) when an order has one already."""
    at = moment(now)
    rows = sorted(
        (slot_of(claim.order_id), claim.order_id, sku, quantity, claim.user_id, claim.request_digest)
        for claim in claims
        for sku, quantity in claim.lines
    )
    values = ",".join(
        [
            f"({slot},{order_id},{word(sku)},{quantity},{state:d},{user_id},{binary(digest)},{at},{at})"
            for slot, order_id, sku, quantity, user_id, digest in rows
        ]
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO inventory_reservation "  # noqa: S608
            "(slot, order_id, sku, quantity, state, user_id, request_digest, created_at, updated_at) "
            f"VALUES {values}"
        )


def change_state(
    alias: str,
    order_ids: Iterable[int],
    *,
    from_states: Sequence[ReservationState],
    to_state: ReservationState,
    now: datetime,
) -> int:
    """Compare-and-set the state of all rows of the orders; return how many rows moved."""
    keys, parameters = key_list(order_ids)
    states = ", ".join(str(int(state)) for state in from_states)
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {keys} STRAIGHT_JOIN inventory_reservation r FORCE INDEX (PRIMARY) "  # noqa: S608
            "ON r.slot = k.slot AND r.order_id = k.order_id "
            f"SET r.state = {to_state:d}, r.updated_at = %s WHERE r.state IN ({states})",
            [*parameters, connection.ops.adapt_datetimefield_value(now)],
        )
        return cursor.rowcount


def set_returned(alias: str, order_id: int, sku: str, returned: int, *, now: datetime) -> None:
    """Note how many units of a locked row of a settled reservation have come back."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_reservation SET returned = %s, updated_at = %s "
            "WHERE slot = %s AND order_id = %s AND sku = %s",
            [returned, connection.ops.adapt_datetimefield_value(now), slot_of(order_id), order_id, sku],
        )


def key_list(order_ids: Iterable[int]) -> tuple[str, list[int]]:
    """Return a derived table `k (slot, order_id)` of the orders in ascending order, and its parameters."""
    keys = sorted((slot_of(order_id), order_id) for order_id in order_ids)
    rows = " UNION ALL SELECT ".join(["%s AS slot, %s AS order_id", *["%s, %s"] * (len(keys) - 1)])
    return f"(SELECT {rows}) k", [part for key in keys for part in key]


def _move_counters(alias: str, quantities: Mapping[str, int], *, changes: str, guard: str) -> int:
    """Run one guarded UPDATE with a CASE over the SKUs, locking their rows in ascending order of the primary key.

    FOUND_ROWS and the version make the count the number of rows that passed the guard.
    """
    pairs = [(word(sku), units) for sku, units in sorted(quantities.items())]
    case = "CASE sku " + " ".join([f"WHEN {sku} THEN {units:d}" for sku, units in pairs]) + " END"
    skus = ",".join([sku for sku, _ in pairs])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_stock FORCE INDEX (PRIMARY) "  # noqa: S608
            f"SET {changes.format(units=case)}, version = version + 1 "
            f"WHERE sku IN ({skus}) AND {guard.format(units=case)}"
        )
        return cursor.rowcount
