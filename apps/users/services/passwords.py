"""Changing a password."""

from dataclasses import dataclass
from datetime import datetime

from apps.users.errors import CredentialsInvalid
from apps.users.events import UPDATED, advance_customer
from apps.users.locks import lock_customer
from apps.users.models import SessionEndReason
from apps.users.passwords import hash_password, is_password
from apps.users.selectors import get_customer
from apps.users.services.sessions import end_all_sessions
from apps.users.slowdown import login_slowdown
from infra.sharding.places import place_of_user


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """A change that is allowed: the hash that was checked, and the new one."""

    user_id: int
    seen: str
    encoded: str


def prepare_password_change(*, user_id: int, current: str, new: str, address: str, now: datetime) -> PasswordChange:
    """Check the current password and hash the new one: what takes long, or the network, before the transaction.

    Raises CredentialsInvalid, TooManyFailures, Overloaded.
    """
    with login_slowdown().attempt(f"{user_id}:{address}", now=now):
        customer = get_customer(user_id)
        if not is_password(current, customer.password):
            raise CredentialsInvalid("The current password is wrong.")
    return PasswordChange(user_id, customer.password, hash_password(new))


def change_password(change: PasswordChange, *, keep_session: str, now: datetime) -> None:
    """Write the new password and end all sessions but the one that asked.

    Raises CredentialsInvalid when another change came between: of two at once one wins.
    """
    place = place_of_user(change.user_id)
    with place.atomic():
        customer = lock_customer(place, change.user_id)
        if customer.password != change.seen:
            raise CredentialsInvalid("The current password is wrong.")
        advance_customer(
            place, customer, event=UPDATED, payload={"changed": ["password"]}, now=now, password=change.encoded
        )
        end_all_sessions(place, user_id=change.user_id, keep=keep_session, reason=SessionEndReason.PASSWORD, now=now)
