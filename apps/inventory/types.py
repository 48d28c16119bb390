"""Frozen values that cross the border of inventory."""

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

Lines = tuple[tuple[str, int], ...]


class Claim(Struct, frozen=True):
    """What one order wants: SKU and units, each SKU once, ascending."""

    order_id: int
    user_id: int
    request_digest: bytes
    lines: Lines


class StockLevel(Struct, frozen=True):
    """What could be bought of a SKU when its row had that version."""

    available: int
    version: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """A SKU of which a claim wants more units than can be bought."""

    sku: str
    requested: int
    available: int


@dataclass(frozen=True, slots=True)
class Hold:
    """All reservations of one order in one place; `state` is the name of a `ReservationState`, such as `held`."""

    order_id: int
    user_id: int
    request_digest: bytes
    state: str
    lines: Lines
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AllottedLine:
    """Units of one SKU that an order bought in a flash sale: they were allotted, not reserved."""

    order_id: int
    user_id: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class StockAlarm:
    """A SKU that is running out, or has."""

    sku: str
    available: int
    on_hand: int
    reserved: int
    allotted: int
