"""A cap on what one process serves at once: what it cannot serve in time it refuses at once."""

from infra.dynamic.definitions import DynamicInteger
from infra.errors import Overloaded
from infra.ratelimit.metrics import REFUSALS


class InFlight:
    """Counts requests between `enter` and `leave`.

    Exact between greenlets; between threads the count may be off by one at its edges, never for good.
    """

    def __init__(self, cap: DynamicInteger) -> None:
        self._cap = cap
        self.count = 0

    def enter(self) -> None:
        """Take a place, which `leave` must give back; raises Overloaded when there is none."""
        if self.count >= self._cap.value:
            REFUSALS.labels("in_flight").inc()
            raise Overloaded("Too many requests at once. Nothing was taken.")
        self.count += 1

    def leave(self) -> None:
        """Give the place back."""
        self.count -= 1
