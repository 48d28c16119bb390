"""What crosses the borders of notifications."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Positions = Mapping[str, int]
"""For each shard, the position in its log up to which a reader has read; a shard that is not named is read from its
beginning."""


@dataclass(frozen=True, slots=True)
class Interest:
    """What a subscription is sent, as the consumer needs it; no types means all."""

    subscription_id: int
    event_types: frozenset[str]

    def covers(self, event_type: str) -> bool:
        """Tell whether it is sent events of a type."""
        return not self.event_types or event_type in self.event_types


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told of events: those who are sent them, and whether there is anybody at all who is or may be."""

    interests: tuple[Interest, ...]
    is_there: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A subscription as the sender needs it."""

    id: int
    name: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class EventReader:
    """Who reads the log: a subscription, by its token."""

    subscription_id: int
    event_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of their logs, and from where to go on; `more` says that there are more already."""

    bodies: list[bytes]
    positions: Positions
    more: bool


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that a sender has claimed, until `lease_ends_at` (monotonic seconds)."""

    alias: str
    position: int
    target: Target
    event_id: str
    body: str
    attempt_count: int
    created_at: datetime
    lease: str
    lease_ends_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try to send; `status` is None where there was no answer."""

    status: int | None
    error: str
    retry_after: str
    took_s: float

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as the staff see it."""

    alias: str
    position: int
    subscription_id: int
    subscription: str
    event_id: str
    event_type: str
    state: str
    attempt_count: int
    due_at: datetime | None
    last_status: int | None
    last_error: str
    created_at: datetime
    ended_at: datetime | None
