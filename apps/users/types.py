"""Values that cross the border of the users app."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class LoginKind(StrEnum):
    """What a login is; it goes into the blind index, so that no kind is found as another."""

    USERNAME = "username"
    EMAIL = "email"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who a request comes from, as its access token says (`request.user`).

    `exempt` shoppers are made by `bench_shoppers`: limits per user do not hold for them.
    """

    user_id: int
    session_id: str
    exempt: bool = False

    @property
    def is_authenticated(self) -> bool:
        """A shopper always is; Django's and DRF's parts ask."""
        return True


@dataclass(frozen=True, slots=True)
class LoginName:
    """A normalised login and its kind."""

    kind: LoginKind
    value: str


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client gets for a login or a refresh; `expires_in` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class AddressFields:
    """An address as a client writes it; `country` is ISO 3166-1 alpha-2, `phone` E.164 or empty."""

    name: str
    phone: str
    country: str
    region: str
    city: str
    line1: str
    line2: str
    postcode: str

    def as_json(self) -> dict[str, str]:
        """Return the members in the order of the contract."""
        return {field: getattr(self, field) for field in ADDRESS_FIELDS}

    @classmethod
    def from_json(cls, members: Mapping[str, str]) -> "AddressFields":
        """Return the address written by `as_json`."""
        return cls(**{field: members.get(field, "") for field in ADDRESS_FIELDS})


ADDRESS_FIELDS = ("name", "phone", "country", "region", "city", "line1", "line2", "postcode")


class AddressSnapshot(Struct, frozen=True):
    """An address at one moment, for an order to keep: the eight members of `AddressFields`.

    `sealed` is their JSON as an `EncryptedJSONField` stores it: writers in plain SQL may store it as it is, without
    encrypting again.
    """

    address_id: int
    members: Mapping[str, str]
    sealed: str


@dataclass(frozen=True, slots=True)
class CustomerSource:
    """A customer of another system: who they were there, and when and where they were first seen."""

    source: str
    number: str
    at: datetime
    country: str


@dataclass(frozen=True, slots=True)
class BenchShopper:
    """A shopper made for a load test; the access token is valid for an hour and exempt from limits."""

    user_id: int
    access: str
    address_id: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What a logged-in shopper proves themselves with anew: one of the current password and a fresh code."""

    password: str | None = None
    code: str | None = None
