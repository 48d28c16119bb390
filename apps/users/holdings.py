"""What other apps hold of a customer: they register it here, since the users app knows none of them.

Asked whether an account may end, told to erase what is personal once it has, and asked for the customer's data.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class ErasureStep:
    """How far an erasure has come: the next step begins at `cursor` (empty: all is done), not before `not_before`."""

    cursor: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class DataPart:
    """A part of a customer's data as JSON values; the next one begins at `cursor` (empty: there is none)."""

    rows: list[dict[str, object]]
    cursor: str


class Holding(Protocol):
    """What an app holds of customers. Each call is bounded: a few hundred rows, one transaction."""

    name: str
    """Names the part in a data export, such as `orders`."""

    def is_under_way(self, user_id: int) -> bool:
        """Tell whether something has yet to end before the account may."""

    def erase(self, user_id: int, *, cursor: str, now: datetime) -> ErasureStep:
        """Erase some of what is personal, from the cursor on (empty: from the beginning). Idempotent."""

    def read(self, user_id: int, *, cursor: str) -> DataPart:
        """Return a part of the customer's data, from the cursor on (empty: from the beginning)."""


_HOLDINGS: Final[dict[str, Holding]] = {}


def register_holding(holding: Holding) -> None:
    """Register what an app holds; called when the apps are ready."""
    _HOLDINGS[holding.name] = holding


def holdings() -> list[Holding]:
    """Return what all apps hold, by name."""
    return [holding for _, holding in sorted(_HOLDINGS.items())]
