"""Events of the customer aggregate: names, and one way to raise the version and tell the fact."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from apps.users.models import Customer
from infra.outbox.services import append
from infra.outbox.types import EventDraft
from infra.sharding.places import Place

AGGREGATE: Final = "customer"
REGISTERED: Final = "customer.registered"
LOGIN_VERIFIED: Final = "customer.login_verified"
UPDATED: Final = "customer.updated"
ERASED: Final = "customer.erased"


class CustomerChanged(Exception):
    """Another transaction raised the customer's version first."""


def advance_customer(
    place: Place,
    customer: Customer,
    *,
    event: str,
    payload: Mapping[str, object],
    now: datetime,
    **changes: object,
) -> None:
    """Write changes of a customer with the next version, and the event that tells them, in the open transaction.

    Compare-and-set on the version that `customer` was read with; raises CustomerChanged when it is no longer so.
    """
    version = customer.version + 1
    updated = (
        Customer.objects.at(place)
        .filter(user_id=customer.user_id, version=customer.version)
        .update(version=version, updated_at=now, **changes)
    )
    if not updated:
        raise CustomerChanged(f"Customer {customer.user_id} is no longer at version {customer.version}.")
    append(
        place,
        EventDraft(
            type=event,
            aggregate=AGGREGATE,
            aggregate_id=customer.user_id,
            version=version,
            user_id=customer.user_id,
            payload=payload,
        ),
        now=now,
    )
