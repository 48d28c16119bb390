"""Changing a password, or setting the first one."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction

from apps.users.errors import CredentialsInvalid
from apps.users.events import UPDATED, advance_customer
from apps.users.locks import lock_customer
from apps.users.models import SessionEndReason
from apps.users.passwords import hash_password
from apps.users.selectors import verified_logins
from apps.users.senders.base import Notice
from apps.users.services.notices import tell
from apps.users.services.proof import check_proof
from apps.users.services.sessions import end_all_sessions
from apps.users.types import Proof
from infra.sharding.places import place_of_user


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """A change that is allowed: the hash that was there, and the new one."""

    user_id: int
    seen: str
    encoded: str


def prepare_password_change(*, user_id: int, proof: Proof, new: str, address: str, now: datetime) -> PasswordChange:
    """Check the proof and hash the new password: what takes long, or the network, before the transaction.

    Raises CredentialsInvalid, TooManyFailures, Overloaded.
    """
    customer = check_proof(user_id=user_id, proof=proof, address=address, now=now)
    return PasswordChange(user_id, customer.password, hash_password(new))


def change_password(change: PasswordChange, *, keep_session: str, now: datetime) -> None:
    """Write the new password and end all sessions but the one that asked; the owner is told once it has committed.

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
        notice = partial(tell, verified_logins(customer), Notice.PASSWORD_CHANGED)
        transaction.on_commit(notice, using=place.alias)
