"""What one shopper may have open at once."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime

from django.conf import settings

from apps.orders.selectors import open_unpaid_counts
from infra.errors import LimitReached


def check_open_unpaid_orders(alias: str, added: Mapping[int, int], *, now: datetime) -> None:
    """Raise LimitReached when so many orders more would be more unpaid ones than one of the shoppers may have.

    `added` counts the new orders of each shopper, all of one shard. Exact only under the locks of their rows.
    """
    if any(added[user_id] > room for user_id, room in room_for_unpaid_orders(alias, added, now=now).items()):
        raise limit_reached()


def room_for_unpaid_orders(alias: str, user_ids: Collection[int], *, now: datetime) -> Counter[int]:
    """Return how many unpaid orders more each of these shoppers of a shard may have."""
    counts = open_unpaid_counts(alias, user_ids, now=now) if user_ids else {}
    return Counter({user_id: settings.ORDER_MAX_OPEN_UNPAID - count for user_id, count in counts.items()})


def limit_reached() -> LimitReached:
    """Return what a shopper with too many unpaid orders is told."""
    return LimitReached(f"At most {settings.ORDER_MAX_OPEN_UNPAID} orders may wait for their payment.")
