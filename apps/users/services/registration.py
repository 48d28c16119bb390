"""Registering: the customer on the shard first, then the directory, and the reaper of what a crash left between.

The directory's transaction decides. Until it has committed, nobody can log in and no login is taken; if it never does,
the reaper writes a void identity under the same user id, on which a stalled registration fails, and only then deletes
the customer.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError, OperationalError, transaction

from apps.users.domain import new_code
from apps.users.errors import LoginTaken, RegistrationLapsed
from apps.users.events import REGISTERED, CustomerChanged, advance_customer
from apps.users.models import DIRECTORY, Customer, CustomerState, Identity, IdentityState
from apps.users.passwords import hash_password
from apps.users.selectors import find_user_id, is_login_known
from apps.users.senders.base import Notice
from apps.users.services.codes import deliver_code
from apps.users.services.directory import insert_login, insert_verification
from apps.users.services.notices import tell
from apps.users.types import LoginKind, LoginName
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry
from infra.sharding.places import Place, place_of_user, shard_aliases
from infra.sharding.workers import new_user_id

_log: Final = logging.getLogger(__name__)
_REAP_LIMIT: Final = 500


def register(*, logins: Sequence[LoginName], password: str, now: datetime) -> int:
    """Register a customer and return the user id; a code has been sent to each e-mail address and phone.

    A username is a login at once. An e-mail address or phone becomes one by `verify_login`; if it is a login of
    somebody already, its owner is told, and the answer is the same. Raises LoginTaken for a username in use,
    Overloaded, RegistrationLapsed.
    Concurrency: of two registrations with one username exactly one commits. A crash at any point blocks no login.
    """
    usernames = [login for login in logins if login.kind is LoginKind.USERNAME]
    if any(find_user_id(login) is not None for login in usernames):
        raise LoginTaken("The username is in use.")
    encoded = hash_password(password)
    user_id = write_customer_somewhere(logins, encoded, now)
    try:
        codes = with_deadlock_retry(lambda: _write_directory(user_id, logins, now))
    except (LoginTaken, RegistrationLapsed):
        delete_orphan(place_of_user(user_id), user_id)
        raise
    try:
        confirm_registration(user_id=user_id, now=now)
    except DatabaseError:
        _log.warning("registration of %s is left for the reaper to confirm", user_id, exc_info=True)
    _send(logins, codes)
    return user_id


def confirm_registration(*, user_id: int, now: datetime) -> None:
    """Make a customer whom the directory knows live, and tell it. Idempotent; the first of several does it."""
    place = place_of_user(user_id)
    try:
        with place.atomic():
            customer = Customer.objects.at(place).filter(user_id=user_id, state=CustomerState.REGISTERING).first()
            if customer is None:
                return
            advance_customer(place, customer, event=REGISTERED, payload={}, now=now, state=CustomerState.LIVE)
    except CustomerChanged:
        return


def reap_orphan_customers(*, alias: str, now: datetime) -> int:
    """Settle registrations that stalled or crashed on a shard; returns how many.

    One that the directory knows is confirmed, any other taken back for good. Safe beside the registration itself and
    beside other reapers, and after being killed at any point.
    """
    before = now - timedelta(seconds=settings.REGISTRATION_DEADLINE_S)
    orphans = (
        Customer.objects.on_shard(alias)
        .filter(state=CustomerState.REGISTERING, registered_at__lt=before)
        .order_by("registered_at")
        .values_list("user_id", flat=True)[:_REAP_LIMIT]
    )
    settled_count = 0
    for user_id in list(orphans):
        if _claim_identity(user_id, now) == IdentityState.LIVE:
            confirm_registration(user_id=user_id, now=now)
        else:
            delete_orphan(place_of_user(user_id), user_id)
        settled_count += 1
    return settled_count


def write_customer_somewhere(logins: Sequence[LoginName], encoded: str, now: datetime) -> int:
    """Write the customer, still registering, on a shard that answers, and return the user id.

    A new customer belongs to no shard yet, so a dead one costs nobody their registration. What a lost answer may have
    left there has no identity, and so the reaper takes it away.
    """
    dead: set[str] = set()
    while True:
        user_id = new_user_id()
        place = place_of_user(user_id)
        if place.alias in dead:
            continue
        try:
            _write_customer(place, user_id, logins, encoded, now)
        except OperationalError:
            dead.add(place.alias)
            if len(dead) == len(shard_aliases()):
                raise
        else:
            return user_id


def _write_customer(place: Place, user_id: int, logins: Sequence[LoginName], encoded: str, now: datetime) -> None:
    values = {login.kind.value: login.value for login in logins}
    with place.atomic():
        Customer(
            slot=place.slot,
            user_id=user_id,
            password=encoded,
            registered_at=now,
            updated_at=now,
            **values,
        ).save(using=place.alias, force_insert=True)


def _write_directory(user_id: int, logins: Sequence[LoginName], now: datetime) -> dict[LoginName, str]:
    """Write identity, username and verifications in one transaction; returns the codes to send."""
    with transaction.atomic(using=DIRECTORY):
        insert_identity(user_id, now)
        codes: dict[LoginName, str] = {}
        for login in logins:
            if login.kind is LoginKind.USERNAME:
                insert_login(login, user_id=user_id, now=now)
            elif not is_login_known(login):
                codes[login] = new_code()
                insert_verification(login, code=codes[login], user_id=user_id, now=now)
    return codes


def insert_identity(user_id: int, now: datetime) -> None:
    """Make a user id known to the directory, in its open transaction; raises RegistrationLapsed after the reaper."""
    try:
        Identity(user_id=user_id, state=IdentityState.LIVE, created_at=now).save(force_insert=True)
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise RegistrationLapsed("The registration took too long. Nothing of it is left; try again.") from error
        raise


def _claim_identity(user_id: int, now: datetime) -> str:
    """Write a void identity, unless there is one; returns the state that holds now."""
    try:
        with transaction.atomic(using=DIRECTORY):
            Identity(user_id=user_id, state=IdentityState.VOID, created_at=now).save(force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        return Identity.objects.get(user_id=user_id).state
    return IdentityState.VOID


def delete_orphan(place: Place, user_id: int) -> None:
    """Take back a customer whom the directory does not know."""
    with place.atomic():
        Customer.objects.at(place).filter(user_id=user_id, state=CustomerState.REGISTERING).delete()


def _send(logins: Sequence[LoginName], codes: dict[LoginName, str]) -> None:
    """Send a code or a notice to each e-mail address and phone. A carrier's failure does not undo the registration."""
    for login in logins:
        if login in codes:
            deliver_code(login, codes[login])
        else:
            tell([login], Notice.REGISTRATION_ATTEMPT)
