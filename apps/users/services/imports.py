"""Customers of another system: ids derived from where they came from, so that importing twice changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import groupby
from typing import Final

from apps.users.models import Customer, CustomerState, Identity, IdentityState
from apps.users.types import CustomerSource
from infra.sharding.ids import imported_id
from infra.sharding.places import place_of_user, shard_atomic
from infra.sharding.slots import SLOT_COUNT, slot_of_user

_BATCH: Final = 500
_MAX_ATTEMPTS: Final = 64


def import_customer(*, source: str, number: str, at: datetime, country: str, now: datetime) -> int:
    """Import one customer and return the user id; see `import_customers`."""
    customer = CustomerSource(source=source, number=number, at=at, country=country)
    return import_customers([customer], now=now)[source, number]


def import_customers(customers: Iterable[CustomerSource], *, now: datetime) -> Mapping[tuple[str, str], int]:
    """Import customers and return their user ids by (source, number).

    They have no login, no password and no events, and ids of the time `at`. A customer known already keeps the id of
    the first import. Safe to repeat, whole or in part, and after a kill; batches are small transactions.
    """
    wanted = {(customer.source, customer.number): customer for customer in customers}
    ids: dict[tuple[str, str], int] = {}
    keys = sorted(wanted)
    for start in range(0, len(keys), _BATCH):
        ids |= _import_batch([wanted[key] for key in keys[start : start + _BATCH]], now)
    return ids


def _import_batch(customers: Sequence[CustomerSource], now: datetime) -> dict[tuple[str, str], int]:
    ids = _known_ids(customers)
    new = [customer for customer in customers if (customer.source, customer.number) not in ids]
    chosen = _choose_ids(new)
    _write_customers(chosen, now)
    Identity.objects.bulk_create(
        Identity(
            user_id=user_id,
            state=IdentityState.LIVE,
            source=customer.source,
            source_number=customer.number,
            created_at=now,
        )
        for user_id, customer in chosen.items()
    )
    return ids | {(customer.source, customer.number): user_id for user_id, customer in chosen.items()}


def _known_ids(customers: Sequence[CustomerSource]) -> dict[tuple[str, str], int]:
    by_source = groupby(sorted(customers, key=lambda customer: customer.source), key=lambda customer: customer.source)
    found: dict[tuple[str, str], int] = {}
    for source, members in by_source:
        numbers = [member.number for member in members]
        rows = Identity.objects.filter(source=source, source_number__in=numbers).values_list("source_number", "user_id")
        found |= {(source, str(number)): user_id for number, user_id in rows}
    return found


def _choose_ids(customers: Sequence[CustomerSource]) -> dict[int, CustomerSource]:
    """Return an id for each customer that nobody else has; the same ones in every run."""
    chosen: dict[int, CustomerSource] = {}
    open_customers, attempt = list(customers), 0
    while open_customers:
        if attempt == _MAX_ATTEMPTS:
            raise ValueError(f"No free id was found for {len(open_customers)} customers at one millisecond.")
        candidates = [(_imported_user_id(customer, attempt), customer) for customer in open_customers]
        taken = set(
            Identity.objects.filter(user_id__in=[user_id for user_id, _ in candidates]).values_list(
                "user_id", flat=True
            )
        )
        open_customers = []
        for user_id, customer in candidates:
            if user_id in taken or user_id in chosen:
                open_customers.append(customer)
            else:
                chosen[user_id] = customer
        attempt += 1
    return chosen


def _imported_user_id(customer: CustomerSource, attempt: int) -> int:
    """Return the id; a user id's slot bits are random, here by the digest of where the customer came from."""
    digest = blake2b(f"{customer.source}\0{customer.number}".encode(), digest_size=2).digest()
    return imported_id(
        slot=int.from_bytes(digest, "big") % SLOT_COUNT,
        at=customer.at,
        source=customer.source,
        number=customer.number,
        attempt=attempt,
    )


def _write_customers(chosen: Mapping[int, CustomerSource], now: datetime) -> None:
    """Write the customers that an earlier run, killed before the directory, has not written."""
    by_alias: dict[str, list[int]] = {}
    for user_id in sorted(chosen):
        by_alias.setdefault(place_of_user(user_id).alias, []).append(user_id)
    for alias, user_ids in by_alias.items():
        keys = [(slot_of_user(user_id), user_id) for user_id in user_ids]
        with shard_atomic(alias, {slot for slot, _ in keys}):
            rows = Customer.objects.on_shard(alias).filter(pk__in=keys)
            present = set(rows.values_list("user_id", flat=True))
            Customer.objects.using(alias).bulk_create(
                Customer(
                    slot=slot,
                    user_id=user_id,
                    state=CustomerState.LIVE,
                    registered_at=chosen[user_id].at,
                    updated_at=now,
                )
                for slot, user_id in keys
                if user_id not in present
            )
