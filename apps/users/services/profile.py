"""Changing a profile; blocking a customer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from apps.users.events import UPDATED, advance_customer
from apps.users.locks import lock_customer
from apps.users.models import Customer, CustomerState, SessionEndReason
from apps.users.services.sessions import end_all_sessions
from infra.sharding.places import place_of_user

PROFILE_FIELDS: Final = frozenset({"display_name", "locale", "time_zone"})


def update_profile(*, user_id: int, changes: Mapping[str, str], now: datetime) -> Customer:
    """Change display name, locale or time zone and return the customer; what is the same already is no change."""
    if not changes.keys() <= PROFILE_FIELDS:
        raise ValueError(f"{sorted(changes.keys() - PROFILE_FIELDS)} are not part of the profile.")
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        new = {field: value for field, value in changes.items() if getattr(customer, field) != value}
        if new:
            advance_customer(place, customer, event=UPDATED, payload={"changed": sorted(new)}, now=now, **new)
            customer.refresh_from_db(using=place.alias)
    return customer


def block_customer(*, user_id: int, now: datetime) -> None:
    """Keep a customer out: no login, and all sessions end. Idempotent."""
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        if customer.state != CustomerState.BLOCKED:
            payload = {"changed": ["state"], "state": str(CustomerState.BLOCKED)}
            advance_customer(place, customer, event=UPDATED, payload=payload, now=now, state=CustomerState.BLOCKED)
        end_all_sessions(place, user_id=user_id, reason=SessionEndReason.BLOCKED, now=now)


def unblock_customer(*, user_id: int, now: datetime) -> None:
    """Let a blocked customer log in again. Idempotent."""
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        if customer.state == CustomerState.BLOCKED:
            payload = {"changed": ["state"], "state": str(CustomerState.LIVE)}
            advance_customer(place, customer, event=UPDATED, payload=payload, now=now, state=CustomerState.LIVE)
