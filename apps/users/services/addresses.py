"""Creating, changing and deleting addresses; each is a change of the customer and raises its version."""

import secrets
from datetime import datetime
from typing import Final

from django.conf import settings

from apps.users.errors import AddressNotFound
from apps.users.events import UPDATED, advance_customer
from apps.users.locks import lock_customer
from apps.users.models import Address
from apps.users.types import AddressFields
from infra.errors import LimitReached
from infra.sharding.places import Place, place_of_user

_PAYLOAD: Final = {"changed": ["addresses"]}


def new_address_id() -> int:
    """Return a random id of 1 to 2^63-1; a user has few addresses, so two are not alike."""
    return 1 + secrets.randbelow(2**63 - 1)


def create_address(*, user_id: int, fields: AddressFields, is_limited: bool = True, now: datetime) -> Address:
    """Add an address; raises LimitReached when the user has as many as allowed.

    Concurrency: one user's changes take turns on the customer's row, so the limit holds.
    """
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        if is_limited and Address.objects.at(place).filter(user_id=user_id).count() >= settings.MAX_ADDRESSES:
            raise LimitReached(f"A shopper has at most {settings.MAX_ADDRESSES} addresses.")
        address = Address(
            slot=place.slot,
            user_id=user_id,
            id=new_address_id(),
            country=fields.country,
            details=fields.as_json(),
            created_at=now,
            updated_at=now,
        )
        address.save(using=place.alias, force_insert=True)
        advance_customer(place, customer, event=UPDATED, payload=_PAYLOAD, now=now)
    return address


def replace_address(*, user_id: int, address_id: int, fields: AddressFields, now: datetime) -> Address:
    """Write all fields of an address anew; raises AddressNotFound. Orders keep the address they were placed with."""
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        address = _find(place, user_id, address_id)
        if address.details != fields.as_json():
            address.country, address.details, address.updated_at = fields.country, fields.as_json(), now
            address.save(using=place.alias, update_fields=["country", "details", "updated_at"])
            advance_customer(place, customer, event=UPDATED, payload=_PAYLOAD, now=now)
    return address


def delete_address(*, user_id: int, address_id: int, now: datetime) -> None:
    """Delete an address; raises AddressNotFound."""
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        _find(place, user_id, address_id)
        Address.objects.at(place).filter(user_id=user_id, id=address_id).delete()
        advance_customer(place, customer, event=UPDATED, payload=_PAYLOAD, now=now)


def _find(place: Place, user_id: int, address_id: int) -> Address:
    address = Address.objects.at(place).filter(user_id=user_id, id=address_id).first()
    if address is None:
        raise AddressNotFound("There is no such address.")
    return address
