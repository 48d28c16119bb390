"""The statements over allotments, purchases and claims, written as SQL: one round trip for a whole batch.

They run inside the caller's transaction on one shard and return what the server counted; callers decide what it means.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections

from apps.promotions.models import ClaimState
from apps.promotions.types import Allotment, ItemKey, SaleClaim
from infra.sharding.ids import slot_of
from infra.sharding.slots import slot_of_user

PurchaseKey = tuple[int, str, int]
"""Sale, SKU, user."""

_ALLOTMENT_COLUMNS: Final = "sale_id, sku, quota, sold, settled, closed, version"
_HAS_UNITS: Final = "closed = 0 AND sold + %s <= quota"
_WITHIN_LIMIT: Final = "bought + %s <= %s"


def read_allotments(alias: str, items: Collection[ItemKey], *, suffix: str = "") -> dict[ItemKey, Allotment]:
    """Return the allotments of the items that exist on the shard; `suffix` may lock them."""
    if not items:
        return {}
    condition, parameters = _item_keys(items)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT {_ALLOTMENT_COLUMNS} FROM promotions_allotment WHERE {condition} ORDER BY sale_id, sku{suffix}",  # noqa: S608
            parameters,
        )
        return {
            (sale_id, sku): Allotment(alias, sale_id, sku, quota, sold, settled, bool(closed), version)
            for sale_id, sku, quota, sold, settled, closed, version in cursor.fetchall()
        }


def claim_units(alias: str, units: Mapping[ItemKey, int]) -> int:
    """Raise `sold` of every open allotment that has enough left; return how many had.

    Fewer than asked means that some item is short, closed or unknown here: the caller must roll back.
    """
    return _move(alias, units, changes="sold = sold + {units}", guard=_HAS_UNITS)


def unclaim_units(alias: str, units: Mapping[ItemKey, int]) -> int:
    """Lower `sold`; return how many allotments had sold that much that was not settled."""
    return _move(alias, units, changes="sold = sold - {units}", guard="sold - %s >= settled")


def unclaim_closed_units(alias: str, units: Mapping[ItemKey, int]) -> int:
    """Lower `sold` and `quota` of closed allotments alike; return how many had sold that much unsettled."""
    return _move(
        alias,
        units,
        changes="quota = quota - {units}, sold = sold - {units}",
        guard="closed = 1 AND sold - %s >= settled",
    )


def settle_units(alias: str, units: Mapping[ItemKey, int]) -> int:
    """Raise `settled`; return how many allotments had sold that much more than was settled."""
    return _move(alias, units, changes="settled = settled + {units}", guard="settled + %s <= sold")


def add_quota(alias: str, item: ItemKey, units: int) -> int:
    """Raise the quota of an open allotment; return 1, or 0 if it is closed or not there."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE promotions_allotment SET quota = quota + %s, version = version + 1 "
            "WHERE sale_id = %s AND sku = %s AND closed = 0",
            [units, *item],
        )
        return cursor.rowcount


def take_quota(alias: str, item: ItemKey, units: int) -> int:
    """Lower the quota of an open allotment by units that are not sold; return 1, or 0 if it has fewer."""
    return _move(alias, {item: units}, changes="quota = quota - {units}", guard="closed = 0 AND quota - %s >= sold")


def close_allotment(alias: str, item: ItemKey, *, unsold: int) -> int:
    """Set the quota to what was sold, if exactly `unsold` units are not; return 1, or 0 if that is no longer so."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE promotions_allotment SET quota = sold, closed = 1, version = version + 1 "
            "WHERE sale_id = %s AND sku = %s AND closed = 0 AND quota - sold = %s",
            [*item, unsold],
        )
        return cursor.rowcount


def read_bought(alias: str, keys: Collection[PurchaseKey]) -> dict[PurchaseKey, int]:
    """Return how many units of an item each buyer has, of those who ever bought."""
    if not keys:
        return {}
    condition = ", ".join(["(%s, %s, %s, %s)"] * len(keys))
    parameters = [value for sale_id, sku, user_id in keys for value in (slot_of_user(user_id), sale_id, sku, user_id)]
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT sale_id, sku, user_id, bought FROM promotions_purchase FORCE INDEX (PRIMARY) "  # noqa: S608
            f"WHERE (slot, sale_id, sku, user_id) IN ({condition})",
            parameters,
        )
        return {(sale_id, sku, user_id): bought for sale_id, sku, user_id, bought in cursor.fetchall()}


def insert_purchases(alias: str, units: Mapping[PurchaseKey, int]) -> None:
    """Write the first purchases of buyers. Raises IntegrityError (1062) when one of them has bought before."""
    rows = sorted((slot_of_user(key[2]), *key, quantity) for key, quantity in units.items())
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO promotions_purchase (slot, sale_id, sku, user_id, bought) "  # noqa: S608
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s)'] * len(rows))}",
            [value for row in rows for value in row],
        )


def add_bought(alias: str, units: Mapping[PurchaseKey, int], limits: Mapping[ItemKey, int]) -> int:
    """Raise what buyers have, if that stays within the items' limits; return how many of them it did for."""
    return _move_bought(
        alias,
        units,
        change="bought + %s",
        guard=_WITHIN_LIMIT,
        guard_parameters=lambda key, quantity: (quantity, limits[key[0], key[1]]),
    )


def take_bought(alias: str, units: Mapping[PurchaseKey, int]) -> int:
    """Lower what buyers have; return how many had that much."""
    return _move_bought(
        alias, units, change="bought - %s", guard="bought >= %s", guard_parameters=lambda key, quantity: (quantity,)
    )


def insert_claims(alias: str, claims: Sequence[SaleClaim], *, now: datetime) -> None:
    """Write the orders' claims as held."""
    connection = connections[alias]
    at = connection.ops.adapt_datetimefield_value(now)
    parameters: list[Any] = []
    for claim in claims:
        parameters += (slot_of(claim.order_id), claim.order_id, claim.user_id, claim.sale_id, claim.sku)
        parameters += (claim.quantity, int(ClaimState.HELD), at)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO promotions_claim (slot, order_id, user_id, sale_id, sku, quantity, state, updated_at) "  # noqa: S608
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s, %s)'] * len(claims))}",
            parameters,
        )


def read_claims(alias: str, order_ids: Collection[int]) -> list[SaleClaim]:
    """Return the claims of those of the orders that have one."""
    if not order_ids:
        return []
    marks = ", ".join(["(%s, %s)"] * len(order_ids))
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT order_id, user_id, sale_id, sku, quantity, state FROM promotions_claim FORCE INDEX (PRIMARY) "  # noqa: S608
            f"WHERE (slot, order_id) IN ({marks})",
            [value for order_id in order_ids for value in (slot_of(order_id), order_id)],
        )
        return [SaleClaim(*row) for row in cursor.fetchall()]


def change_claims(
    alias: str, order_ids: Collection[int], *, from_state: ClaimState, to_state: ClaimState, now: datetime
) -> int:
    """Compare-and-set the state of claims; return how many moved."""
    condition, parameters = claim_keys(order_ids)
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE promotions_claim FORCE INDEX (PRIMARY) SET state = {to_state:d}, updated_at = %s "  # noqa: S608
            f"WHERE ({condition}) AND state = {from_state:d}",
            [connection.ops.adapt_datetimefield_value(now), *parameters],
        )
        return cursor.rowcount


def claim_keys(order_ids: Collection[int]) -> tuple[str, list[int]]:
    """Return a condition over the primary keys of claims, and its parameters; both servers make ranges of it."""
    condition = " OR ".join(["(slot = %s AND order_id = %s)"] * len(order_ids))
    return f"({condition})", [value for each in sorted(order_ids) for value in (slot_of(each), each)]


def _item_keys(items: Collection[ItemKey]) -> tuple[str, list[Any]]:
    condition = " OR ".join(["(sale_id = %s AND sku = %s)"] * len(items))
    return f"({condition})", [value for item in sorted(items) for value in item]


def _move(alias: str, units: Mapping[ItemKey, int], *, changes: str, guard: str) -> int:
    """Run one guarded UPDATE over allotments, locking their rows in ascending order of the primary key.

    FOUND_ROWS and the version make the count the number of rows that passed the guard.
    """
    pairs = sorted(units.items())
    case = "CASE " + "WHEN sale_id = %s AND sku = %s THEN %s " * len(pairs) + "END"
    case_parameters: list[Any] = [value for item, quantity in pairs for value in (*item, quantity)]
    condition = " OR ".join([f"(sale_id = %s AND sku = %s AND {guard})"] * len(pairs))
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE promotions_allotment FORCE INDEX (PRIMARY) "  # noqa: S608
            f"SET {changes.format(units=case)}, version = version + 1 WHERE {condition}",
            [*case_parameters * changes.count("{units}"), *case_parameters],
        )
        return cursor.rowcount


def _move_bought(
    alias: str,
    units: Mapping[PurchaseKey, int],
    *,
    change: str,
    guard: str,
    guard_parameters: Any,
) -> int:
    """Run a guarded UPDATE over purchases for each quantity, which is nearly always one and the same."""
    by_quantity: dict[int, list[PurchaseKey]] = defaultdict(list)
    for key, quantity in sorted(units.items(), key=lambda pair: (slot_of_user(pair[0][2]), pair[0])):
        by_quantity[quantity].append(key)
    moved = 0
    for quantity, keys in by_quantity.items():
        row = f"(slot = %s AND sale_id = %s AND sku = %s AND user_id = %s AND {guard})"
        parameters: list[Any] = [quantity]
        for key in keys:
            parameters += (slot_of_user(key[2]), *key, *guard_parameters(key, quantity))
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"UPDATE promotions_purchase FORCE INDEX (PRIMARY) SET bought = {change} "  # noqa: S608
                f"WHERE {' OR '.join([row] * len(keys))}",
                parameters,
            )
            moved += cursor.rowcount
    return moved
