"""What every carrier can do, and what it may tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from apps.orders.fulfillment import LineShare, ShipmentStatus


@dataclass(frozen=True, slots=True)
class ShipmentOrder:
    """What a carrier is asked to bring; `reference` (the shipment's id) is its idempotency key."""

    reference: str
    address: Mapping[str, str]
    items: tuple[LineShare, ...]


@dataclass(frozen=True, slots=True)
class Booking:
    """A carrier's word that it will bring a shipment, under a tracking number."""

    number: str


@dataclass(frozen=True, slots=True)
class TrackNotice:
    """A track event whose signature was good; `reference` is the shipment's id, `at` by the carrier's clock."""

    carrier: str
    event_id: str
    reference: str
    status: ShipmentStatus
    at: datetime
    place: str


class Carrier(Protocol):
    """A carrier that takes shipments by itself. Its methods call the network: never inside a transaction.

    Each call ends within the carrier's time limit. All raise CarrierUnavailable when the outcome is unknown, and
    CarrierRefused when it is known that nothing was done. Booking is idempotent by `reference`: the same request again
    returns the booking as it stands.
    """

    name: str

    def book(self, order: ShipmentOrder) -> Booking:
        """Have a shipment fetched and brought, or return its booking as it stands."""

    def cancel(self, reference: str) -> None:
        """Call a booking off that has not been fetched; one that is not known there is called off, too."""

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> TrackNotice:
        """Verify a track event and read it; no network. Raises SignatureInvalid, CallbackMalformed.

        `headers` ignores case. Staleness is judged by `now`.
        """
