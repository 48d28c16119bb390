"""Pure rules of stock: the strategies by which it is claimed. No I/O, no Django."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Strategy(StrEnum):
    """How claims of one SKU that come at once get past each other; what is sold is the same with each.

    Ascending by how long a claim may wait for others before it is decided.
    """

    MERGED = "merged"
    OPTIMISTIC = "optimistic"
    PESSIMISTIC = "pessimistic"
    LOCK = "lock"
    QUEUE = "queue"


MEANINGS: Final = {
    Strategy.MERGED: "claims that arrive together are one guarded UPDATE (the default)",
    Strategy.OPTIMISTIC: "read, then write if the row's version is still the same",
    Strategy.PESSIMISTIC: "lock the row, then decide",
    Strategy.LOCK: "a lock in Redis around the guarded write",
    Strategy.QUEUE: "one consumer takes the claims of all processes in the order of their arrival",
}
_ORDER: Final = tuple(Strategy)


def longest_waiting(strategies: Iterable[Strategy]) -> Strategy:
    """Return the one of them that may wait longest; an order waits as its slowest SKU does. Raises ValueError if none.

    >>> longest_waiting([Strategy.LOCK, Strategy.MERGED]).value
    'lock'
    """
    return max(strategies, key=_ORDER.index)
