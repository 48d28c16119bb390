"""What a check finds, and how it is told apart from work that is still under way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

# The recovery bounds of the contract, in seconds.
HOLD_BOUND_S: Final = 60
CLOSED_STOCK_BOUND_S: Final = 10
REFUND_BOUND_S: Final = 20
BACKLOG_BOUND_S: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be so.

    `since`: from when on, as far as the rows tell; `bound_s`: for how long it may be so while the system recovers by
    itself. Without `since` nothing excuses it. `mend` repairs it through the services, safely beside running traffic,
    and is None where nobody can know what is right.
    """

    check: str
    alias: str
    subject: str
    detail: str
    since: datetime | None = None
    bound_s: float = 0.0
    mend: Callable[[datetime], object] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding when it is read again."""
        return self.check, self.alias, self.subject

    def is_in_flight(self, *, now: datetime, recovering_since: datetime) -> bool:
        """Tell whether it is younger than its bound, counted from when the databases were up at the earliest."""
        if self.since is None:
            return False
        return now - max(self.since, recovering_since) < timedelta(seconds=self.bound_s)
