"""Which months a customer's orders lie in; written by orders, inside the order's transaction."""

from collections.abc import Sequence
from typing import Final

from django.db import connections

from infra.sharding.months import Month
from infra.sharding.places import place_of_user
from infra.sharding.slots import slot_of_user

_UPDATE: Final = (
    # The index by force: for several rows of a small table the optimizer would read all of it.
    "UPDATE users_customer FORCE INDEX (PRIMARY) SET first_order_month = LEAST(COALESCE(first_order_month, %s), %s),"
    " last_order_month = GREATEST(COALESCE(last_order_month, %s), %s)"
    # ORs, not a row constructor: for an UPDATE by one with a single member, MariaDB scans all partitions.
    " WHERE ({rows})"
    " AND (first_order_month IS NULL OR first_order_month > %s OR last_order_month < %s)"
)


def note_order_month(user_id: int, month: Month) -> bool:
    """Note that the user has an order in this month; call it inside the order's transaction.

    Returns whether that was new. It is true of a month once, so callers may remember it and ask no more.
    """
    return note_order_months(place_of_user(user_id).alias, [user_id], month) > 0


def note_order_months(alias: str, user_ids: Sequence[int], month: Month) -> int:
    """Note a month for several users of one shard in one statement; returns for how many it was new.

    Rows are locked in the order of their key, as for every batch that touches several customers.
    """
    if not user_ids:
        return 0
    keys = sorted((slot_of_user(user_id), user_id) for user_id in set(user_ids))
    rows = " OR ".join(["(slot = %s AND user_id = %s)"] * len(keys))
    number = 100 * month.year + month.month
    parameters = [number] * 4 + [part for key in keys for part in key] + [number] * 2
    with connections[alias].cursor() as cursor:
        cursor.execute(_UPDATE.format(rows=rows), parameters)
        return int(cursor.rowcount)
