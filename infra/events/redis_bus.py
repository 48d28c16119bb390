"""The event bus on Redis Streams: one stream a partition, each step one script, so that it happens wholly or not.

What keeps order when processes stall, die or come back late (the scripts in `scripts/` hold the details):

* A source's hash holds the relay's fencing token, the epoch and the batch number. A relay with a lower token is
  refused; a missing epoch or a lower batch number means that Redis lost its memory, and the outbox feeds it again.
* A consumer owns a partition for a tenure. A fetch names the tenure, so that a stalled owner reads nothing more once
  another one has taken over; and after any failed call the reader begins new tenures, so that a fetch that was given
  up but reaches the server later reads nothing either.
* All owners of a partition read under one consumer name: a new owner first reads again, in order, what the last one
  had got and not acknowledged, and only then goes on.
* Entries are dropped only once every group has acknowledged them. A full partition refuses more; the outbox waits.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from infra.events.bus import BusForgot, BusFull, BusUnavailable, Delivery, Feed, Outgoing, PublisherFenced
from infra.events.envelope import PARTITION_COUNT, BadEnvelope, decode

logger = logging.getLogger(__name__)

_SCRIPTS: Final = {path.stem: path.read_text() for path in (Path(__file__).parent / "scripts").glob("*.lua")}
_Argument = str | int | bytes
_PENDING_FROM_START: Final = "0-0"


class _Server:
    """A connection to the durable Redis, and the names of the keys there."""

    def __init__(self) -> None:
        # Never retried by the client: a call that failed may still be done by the server, and only the callers here
        # know what that means.
        self.client = redis.Redis.from_url(
            settings.REDIS_DURABLE_URL,
            socket_timeout=settings.EVENT_BUS_TIMEOUT_S,
            socket_connect_timeout=settings.EVENT_BUS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
        )
        self._scripts = {name: self.client.register_script(text) for name, text in _SCRIPTS.items()}
        self.prefix = f"{settings.EVENT_BUS_PREFIX}:events:"
        self.stream_prefix = f"{self.prefix}stream:"

    def run(self, script: str, *, keys: Sequence[str] = (), args: Sequence[_Argument] = ()) -> Any:
        """Run a script. Raises BusUnavailable."""
        try:
            return self._scripts[script](keys=list(keys), args=list(args))
        except (RedisError, OSError) as error:
            raise BusUnavailable(f"{script}: {error}") from error

    def source(self, name: str) -> str:
        return f"{self.prefix}source:{name}"

    def members(self, group: str) -> str:
        return f"{self.prefix}members:{group}"

    def owners(self, group: str) -> str:
        return f"{self.prefix}owners:{group}"

    def close(self) -> None:
        self.client.close()


class RedisPublisher:
    """The relay's side."""

    def __init__(self) -> None:
        self._server = _Server()

    def begin_epoch(self, feed: Feed) -> None:
        """Make the bus remember a new epoch of a source."""
        answer = self._server.run(
            "begin_epoch", keys=[self._server.source(feed.source)], args=[feed.token, feed.epoch, feed.batch_number]
        )
        if answer != b"ok":
            raise PublisherFenced(feed.source)

    def publish(self, feed: Feed, batch: Sequence[Outgoing]) -> None:
        """Publish a batch in order, wholly or not at all."""
        args: list[_Argument] = [
            feed.token,
            feed.epoch,
            feed.batch_number,
            self._server.stream_prefix,
            settings.EVENT_PARTITION_MAX_ENTRIES,
        ]
        for outgoing in batch:
            args += (outgoing.slot % PARTITION_COUNT, outgoing.type, outgoing.body)
        answer = self._server.run("publish", keys=[self._server.source(feed.source)], args=args)
        if answer == b"fenced":
            raise PublisherFenced(feed.source)
        if answer == b"forgot":
            raise BusForgot(feed.source)
        if answer == b"full":
            raise BusFull("A partition is full; a group of consumers does not keep up.")

    def trim(self) -> int:
        """Drop what every group has acknowledged."""
        return int(self._server.run("trim", args=[self._server.stream_prefix, PARTITION_COUNT]))

    def close(self) -> None:
        """Let go of connections."""
        self._server.close()


@dataclass(slots=True)
class _Tenure:
    """A partition in this reader's hands: under which tenure, and where to read on."""

    name: str
    cursor: str = _PENDING_FROM_START


class RedisGroupReader:
    """One consumer of a group; for one thread."""

    def __init__(self, *, group: str, consumer: str, types: frozenset[str]) -> None:
        self._server = _Server()
        self._group = group
        self._consumer = consumer
        self._types = sorted(types)
        self._tenures: dict[int, _Tenure] = {}
        self._in_doubt = True
        self._turn = 0

    def balance(self) -> Mapping[int, str]:
        """Renew, take and give up partitions; returns the tenure of each that is owned now."""
        answer = self._run(
            "balance",
            keys=[self._server.members(self._group), self._server.owners(self._group)],
            args=[
                self._consumer,
                int(settings.EVENT_LEASE_S * 1000),
                PARTITION_COUNT,
                self._server.stream_prefix,
                self._group,
                "1" if self._in_doubt else "0",
            ],
        )
        self._in_doubt = False
        owned = {int(partition): tenure.decode() for partition, tenure in zip(answer[::2], answer[1::2], strict=True)}
        self._tenures = {
            partition: known
            if (known := self._tenures.get(partition)) is not None and known.name == tenure
            else _Tenure(tenure)
            for partition, tenure in owned.items()
        }
        return owned

    def fetch(self, *, partitions: Collection[int], limit: int) -> list[Delivery]:
        """Return the next deliveries of owned partitions; each partition comes first in its turn."""
        asked = sorted(set(partitions) & self._tenures.keys())
        if not asked or self._in_doubt:
            return []
        self._turn = (self._turn + 1) % len(asked)
        args: list[_Argument] = [
            self._consumer,
            self._server.stream_prefix,
            self._group,
            limit,
            len(self._types),
            *self._types,
        ]
        for partition in asked[self._turn :] + asked[: self._turn]:
            tenure = self._tenures[partition]
            args += (partition, tenure.name, tenure.cursor)
        deliveries: list[Delivery] = []
        for answer in self._run("fetch", keys=[self._server.owners(self._group)], args=args):
            partition = int(answer[0])
            if answer[1] == b"lost":
                del self._tenures[partition]
                continue
            self._tenures[partition].cursor = answer[2].decode()
            entries = answer[3]
            for position, body in zip(entries[::2], entries[1::2], strict=True):
                try:
                    deliveries.append(Delivery(partition, position.decode(), decode(body)))
                except BadEnvelope:
                    # Nothing of ours writes such an entry; it belongs to no aggregate that could wait for it.
                    logger.exception("An entry of partition %s is no envelope and is dropped: %r", partition, body)
                    self._acknowledge({partition: [position.decode()]})
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with."""
        positions: dict[int, list[str]] = {}
        for delivery in deliveries:
            positions.setdefault(delivery.partition, []).append(delivery.position)
        self._acknowledge(positions)

    def _acknowledge(self, positions: Mapping[int, Sequence[str]]) -> None:
        try:
            with self._server.client.pipeline(transaction=False) as pipeline:
                for partition, ids in positions.items():
                    pipeline.xack(f"{self._server.stream_prefix}{partition}", self._group, *ids)
                pipeline.execute()
        except (RedisError, OSError) as error:
            self._in_doubt = True
            raise BusUnavailable(f"acknowledge: {error}") from error

    def restart(self) -> None:
        """Forget what was fetched; the next `balance` begins new tenures."""
        self._in_doubt = True

    def close(self) -> None:
        """Give up all partitions at once, if the server can be reached, and let go of connections."""
        try:
            self._server.run(
                "leave",
                keys=[self._server.members(self._group), self._server.owners(self._group)],
                args=[self._consumer],
            )
        finally:
            self._server.close()

    def _run(self, script: str, *, keys: Sequence[str], args: Sequence[_Argument]) -> Any:
        try:
            return self._server.run(script, keys=keys, args=args)
        except BusUnavailable:
            # The server may have done it, or may do it yet: what it read for us is pending and must be read again.
            self._in_doubt = True
            raise


class RedisEventBus:
    """The back end `redis`."""

    def publisher(self) -> RedisPublisher:
        """Return a publisher for one thread."""
        return RedisPublisher()

    def reader(self, *, group: str, consumer: str, types: frozenset[str]) -> RedisGroupReader:
        """Return a consumer of a group."""
        return RedisGroupReader(group=group, consumer=consumer, types=types)

    def backlog(self, group: str) -> int:
        """Return how many entries the group has not acknowledged."""
        server = _Server()
        try:
            return int(server.run("backlog", args=[server.stream_prefix, PARTITION_COUNT, group]))
        finally:
            server.close()

    def drop_group(self, group: str) -> None:
        """Forget a group, so that it holds nothing back."""
        server = _Server()
        try:
            for partition in range(PARTITION_COUNT):
                if server.client.exists(f"{server.stream_prefix}{partition}"):
                    server.client.xgroup_destroy(f"{server.stream_prefix}{partition}", group)
            server.client.delete(server.members(group), server.owners(group))
        except (RedisError, OSError) as error:
            raise BusUnavailable(f"drop_group: {error}") from error
        finally:
            server.close()
