"""An event as it travels: what every consumer may rely on, on every back end of the bus."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

PARTITION_COUNT: Final = 64
"""Partitions of the bus, fixed for good: an event's place on it depends on its slot alone."""


class BadEnvelope(ValueError):
    """Bytes on the bus are no envelope."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A domain event. `version` is its aggregate's version, which has no gaps; `slot` tells the shard and partition."""

    event_id: str
    type: str
    schema_version: int
    aggregate: str
    aggregate_id: int
    version: int
    slot: int
    user_id: int
    order_id: int | None
    occurred_at: datetime
    payload: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def partition(self) -> int:
        """The partition of the bus that carries all events of this slot."""
        return self.slot % PARTITION_COUNT

    @property
    def aggregate_key(self) -> tuple[str, int]:
        """What the order of events is kept for."""
        return self.aggregate, self.aggregate_id


class _Wire(msgspec.Struct, omit_defaults=True):
    """The envelope in JSON. Ids are strings, since readers in other languages lose digits beyond 2^53."""

    event_id: str
    type: str
    schema_version: int
    aggregate: str
    aggregate_id: str
    version: int
    slot: int
    user_id: str
    occurred_at: datetime
    payload: msgspec.Raw
    order_id: str | None = None
    headers: msgspec.Raw = msgspec.Raw(b"{}")


_DECODER: Final = msgspec.json.Decoder(_Wire)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_TEXTS: Final = msgspec.json.Decoder(dict[str, str])


def encode(envelope: Envelope) -> bytes:
    """Return the envelope as JSON."""
    return encode_row(
        event_id=envelope.event_id,
        type=envelope.type,
        schema_version=envelope.schema_version,
        aggregate=envelope.aggregate,
        aggregate_id=envelope.aggregate_id,
        version=envelope.version,
        slot=envelope.slot,
        user_id=envelope.user_id,
        order_id=envelope.order_id,
        occurred_at=envelope.occurred_at,
        payload=msgspec.json.encode(dict(envelope.payload)),
        headers=msgspec.json.encode(dict(envelope.headers)),
    )


def encode_row(
    *,
    event_id: str,
    type: str,  # noqa: A002 - the member's name
    schema_version: int,
    aggregate: str,
    aggregate_id: int,
    version: int,
    slot: int,
    user_id: int,
    order_id: int | None,
    occurred_at: datetime,
    payload: bytes,
    headers: bytes,
) -> bytes:
    """Return an envelope as JSON from parts of which payload and headers are JSON objects already."""
    return msgspec.json.encode(
        _Wire(
            event_id=event_id,
            type=type,
            schema_version=schema_version,
            aggregate=aggregate,
            aggregate_id=str(aggregate_id),
            version=version,
            slot=slot,
            user_id=str(user_id),
            order_id=None if order_id is None else str(order_id),
            occurred_at=occurred_at if occurred_at.tzinfo else occurred_at.replace(tzinfo=UTC),
            payload=msgspec.Raw(payload),
            headers=msgspec.Raw(headers),
        )
    )


def decode(body: bytes) -> Envelope:
    """Return the envelope in `body`; members that this version does not know are ignored. Raises BadEnvelope."""
    try:
        wire = _DECODER.decode(body)
        return Envelope(
            event_id=wire.event_id,
            type=wire.type,
            schema_version=wire.schema_version,
            aggregate=wire.aggregate,
            aggregate_id=int(wire.aggregate_id),
            version=wire.version,
            slot=wire.slot,
            user_id=int(wire.user_id),
            order_id=None if wire.order_id is None else int(wire.order_id),
            occurred_at=wire.occurred_at,
            payload=_OBJECT.decode(wire.payload),
            headers=_TEXTS.decode(wire.headers),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadEnvelope(f"No envelope: {error}") from error
