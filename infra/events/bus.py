"""The event bus as relay and consumers see it; the back ends live beside it (`redis_bus`; Kafka's comes with it).

On every back end: 64 partitions by slot, order kept within a partition, delivery at least once, one active consumer
for each partition of a group.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from infra.events.envelope import Envelope


class BusUnavailable(Exception):
    """The bus cannot be reached or takes nothing now; come again later, nothing is lost."""


class BusFull(BusUnavailable):
    """A partition holds as much as it may because a group does not keep up; publishing waits for it."""


class BusForgot(Exception):
    """The bus no longer knows what was published to it; it is fed again from the outbox."""


class PublisherFenced(Exception):
    """A relay with a higher token publishes for this source."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An encoded envelope on its way out, with what the bus must know of it."""

    slot: int
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Feed:
    """Who publishes, and what the bus has to remember of this source to be trusted with more.

    `epoch` names the bus's memory; `batch_number` counts batches within it, so that a bus that came back with an older
    state is noticed too.
    """

    source: str
    token: int
    epoch: str
    batch_number: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope as one group got it; `position` is the back end's own."""

    partition: int
    position: str
    envelope: Envelope


class Publisher(Protocol):
    """The relay's side. All methods raise BusUnavailable."""

    def begin_epoch(self, feed: Feed) -> None:
        """Make the bus remember a new epoch of a source. Raises PublisherFenced."""

    def publish(self, feed: Feed, batch: Sequence[Outgoing]) -> None:
        """Publish a batch in order, wholly or not at all, as the feed's batch after `feed.batch_number`.

        Raises PublisherFenced, BusForgot, BusFull.
        """

    def trim(self) -> int:
        """Drop what every group has acknowledged; returns how many entries."""

    def close(self) -> None:
        """Let go of connections."""


class GroupReader(Protocol):
    """One consumer of a group. All methods raise BusUnavailable."""

    def balance(self) -> Mapping[int, str]:
        """Renew this consumer's partitions, take free ones, give up surplus ones; returns what it owns now.

        The value names the tenure: when it is another one than before, the partition's deliveries begin again with all
        that is not acknowledged, and what was got earlier is to be forgotten.
        """

    def fetch(self, *, partitions: Collection[int], limit: int) -> list[Delivery]:
        """Return the next deliveries of partitions that are still owned, in order within each; never waits.

        A partition that was just taken over yields first what its last owner had got and not acknowledged.
        """

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with; they are not delivered again."""

    def restart(self) -> None:
        """Forget what was fetched: the next `balance` begins new tenures."""

    def close(self) -> None:
        """Give up all partitions at once, so that others need not wait for the lease to end."""


class EventBus(Protocol):
    """A back end."""

    def publisher(self) -> Publisher:
        """Return a publisher for one thread."""

    def reader(self, *, group: str, consumer: str, types: frozenset[str]) -> GroupReader:
        """Return a consumer of a group; only events of `types` are delivered to it."""

    def backlog(self, group: str) -> int:
        """Return how many entries the group has not acknowledged, of all types."""

    def drop_group(self, group: str) -> None:
        """Forget a group that nobody consumes for any more, so that it holds nothing back."""


def event_bus() -> EventBus:
    """Return the back end that the setting EVENT_BUS names."""
    bus: EventBus = import_string(settings.EVENT_BUS_BACKENDS[settings.EVENT_BUS])()
    return bus
