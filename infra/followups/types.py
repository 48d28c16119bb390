"""A follow-up as its drainer sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Work of one kind that is owed to one order; `version` tells whether new facts have come since it was read."""

    alias: str
    slot: int
    order_id: int
    kind: str
    n: int
    due_at: datetime
    attempt_count: int
    version: int
    last_error: str = ""
