"""Logging in with a phone and the code sent to it, which also proves the phone.

A phone that is nobody's login becomes one by its first proof: of the registration that waits for it, if that account
holds nothing yet that its new owner should not see, else of a new customer. What others set on that account before (a
password, sessions, an e-mail address that they have not proven) ends. The customer is on the shard first, the
directory's transaction decides and uses up the code, the shard is told last; `settle_verifications` finishes what a
crash leaves between.
"""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction

from apps.users.errors import CredentialsInvalid, LoginTaken, RegistrationLapsed
from apps.users.models import DIRECTORY, Address, CodePurpose, Customer, CustomerState, Login, Verification
from apps.users.selectors import find_customer, find_user_id
from apps.users.services.codes import prove_code, send_code, use_code
from apps.users.services.directory import accept_login, insert_login
from apps.users.services.registration import (
    confirm_registration,
    delete_orphan,
    insert_identity,
    write_customer_somewhere,
)
from apps.users.services.sessions import open_session
from apps.users.services.verification import tell_shard
from apps.users.types import LoginKind, LoginName, TokenPair
from infra.crypto.blind_index import blind_index
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import place_of_user

_INVALID: Final = "The code is not valid."


class _NotAdoptable(Exception):
    """The registration has got a login since it was looked at."""


def request_login_code(*, phone: str, address: str, now: datetime) -> None:
    """Send a code that logs in by this phone; the same for a phone that is known and one that is not.

    A phone that has had as many codes as allowed gets none, and nobody is told. Raises TooManyCodes for the address.
    """
    send_code(LoginName(LoginKind.PHONE, phone), CodePurpose.LOGIN, address=address, now=now)


def log_in_by_code(*, phone: str, code: str, device: str, now: datetime) -> TokenPair:
    """Open a session by the newest code sent to a phone; a phone of nobody's gets its customer.

    Raises CredentialsInvalid for a code that is wrong, expired, used or tried too often, and for a blocked customer.
    Concurrency: a code opens one session, whatever comes at once.
    """
    login = LoginName(LoginKind.PHONE, phone)
    code_id = prove_code([login], CodePurpose.LOGIN, code, now=now)
    owner_id = find_user_id(login)
    if owner_id is None:
        try:
            owner_id = _make_owner(login, code_id, now)
        except LoginTaken:  # somebody else has proven it meanwhile
            owner_id = find_user_id(login)
            if owner_id is None:
                raise
            _use_as_owner(owner_id, login, code_id, now)
    else:
        _use_as_owner(owner_id, login, code_id, now)
    return open_session(owner_id, device=device, now=now)


def _use_as_owner(owner_id: int, login: LoginName, code_id: int, now: datetime) -> None:
    """Use up the code of a customer whose login the phone is, once their shard has answered: a dead one costs no code.

    Raises CredentialsInvalid.
    """
    customer = find_customer(owner_id)
    if customer is None or not customer.may_log_in:
        raise CredentialsInvalid(_INVALID)
    _tell_what_is_untold(login, now)
    confirm_registration(user_id=owner_id, now=now)
    use_code(code_id, now=now)


def _tell_what_is_untold(login: LoginName, now: datetime) -> None:
    """Finish a proof of this login that a crash left half done: later it would end the session that begins now."""
    digests = [entry.digest for entry in blind_index(login.kind, login.value)]
    for accepted in Verification.objects.filter(digest__in=digests, accepted_at__isnull=False).order_by("id"):
        tell_shard(accepted, now)


def _make_owner(login: LoginName, code_id: int, now: datetime) -> int:
    """Make the phone a login of the registration that waits for it, or of a new customer; returns whose.

    Raises LoginTaken, and CredentialsInvalid when the code was used meanwhile.
    """
    waiting_id = _registration_waiting_for(login)
    accepted = None if waiting_id is None else _hand_over(waiting_id, login, code_id, now)
    if accepted is None:
        new_id = write_customer_somewhere([login], "", now)
        try:
            accepted = with_deadlock_retry(lambda: _accept(new_id, login, code_id, is_new=True, now=now))
        except (LoginTaken, CredentialsInvalid, RegistrationLapsed):
            delete_orphan(place_of_user(new_id), new_id)
            raise
    tell_shard(accepted, now)
    return accepted.user_id


def _hand_over(user_id: int, login: LoginName, code_id: int, now: datetime) -> Verification | None:
    """Make the phone the login of a registration, or return None when it has got a login since it was looked at."""
    try:
        return with_deadlock_retry(lambda: _accept(user_id, login, code_id, is_new=False, now=now))
    except _NotAdoptable:
        return None


def _registration_waiting_for(login: LoginName) -> int | None:
    """Return the newest registration with this phone that its owner can take over, or None.

    It has no proven login, no address and no order: another person's data never comes with it.
    """
    digests = [entry.digest for entry in blind_index(login.kind, login.value)]
    waiting = Verification.objects.filter(digest__in=digests, accepted_at__isnull=True).order_by("-id")
    for user_id in waiting.values_list("user_id", flat=True)[: settings.CODES_PER_LOGIN_HOUR]:
        customer = find_customer(user_id)
        if customer is not None and _is_adoptable(customer, login):
            return user_id
    return None


def _is_adoptable(customer: Customer, login: LoginName) -> bool:
    return (
        customer.state in (CustomerState.LIVE, CustomerState.REGISTERING)
        and customer.phone == login.value
        and customer.phone_verified_at is None
        and customer.email_verified_at is None
        and customer.first_order_month is None
        and not Address.objects.for_user(customer.user_id).filter(user_id=customer.user_id).exists()
    )


def _accept(user_id: int, login: LoginName, code_id: int, *, is_new: bool, now: datetime) -> Verification:
    """Use up the code and make the phone this user's login, in one transaction of the directory."""
    with transaction.atomic(using=DIRECTORY):
        use_code(code_id, now=now)
        if is_new:
            insert_identity(user_id, now)
        else:
            # What else the registration waits for was asked for by somebody else, perhaps.
            Verification.objects.filter(user_id=user_id, accepted_at__isnull=True).delete()
            if Login.objects.filter(user_id=user_id).exclude(kind=LoginKind.USERNAME).exists():
                raise _NotAdoptable
        insert_login(login, user_id=user_id, now=now)
        return accept_login(login, user_id=user_id, is_first_proof=True, now=now)
