"""Changing and removing what a customer logs in with; who asks has proven themselves anew (`proof`).

The directory decides, in one transaction that first locks the user's identity, so that one user's changes take turns;
the shard is told by the row that this transaction leaves (`verification.tell_shard`), if need be by the scan. A new
e-mail address or phone is a login only once its code has come back (`verification.verify_login`).
"""

from datetime import datetime

from django.db import transaction

from apps.users.domain import new_code
from apps.users.errors import LoginTaken
from apps.users.locks import lock_identity
from apps.users.models import DIRECTORY, Customer, Login, Verification
from apps.users.selectors import find_user_id
from apps.users.senders.base import Notice
from apps.users.services.codes import count_sending, deliver_code
from apps.users.services.directory import accept_login, accept_removal, insert_login, insert_verification
from apps.users.services.notices import tell
from apps.users.services.verification import tell_shard
from apps.users.types import LoginKind, LoginName
from infra.errors import InvalidState, NotFound
from infra.mysql.retry import with_deadlock_retry


def change_username(*, user_id: int, username: str, now: datetime) -> None:
    """Make a username this user's, in the place of the one before. Idempotent. Raises LoginTaken.

    Concurrency: of two users who want one username at once, one gets it.
    """
    login = LoginName(LoginKind.USERNAME, username)
    accepted = with_deadlock_retry(lambda: _replace_username(user_id, login, now))
    if accepted is not None:
        tell_shard(accepted, now)


def begin_change(*, user_id: int, login: LoginName, address: str, now: datetime) -> None:
    """Send a code to a new e-mail address or phone of this user's; `verify_login` makes it a login.

    The owner of one that is somebody else's is told instead, and one that had as many codes as allowed gets nothing:
    the answer is the same. Raises TooManyCodes for the client's `address`.
    """
    code = count_sending(login, lambda: _write_verification(user_id, login, now), address=address, now=now)
    if code:
        deliver_code(login, code)
    elif code is not None:
        tell([login], Notice.CHANGE_ATTEMPT)


def remove_login(*, customer: Customer, kind: LoginKind, now: datetime) -> None:
    """Take a login away from a customer, who keeps another one to log in with.

    Raises NotFound without such a login, InvalidState for the last one. Concurrency: of two removals at once that
    would leave nothing, one is refused.
    """
    value = getattr(customer, kind)
    if not value:
        raise NotFound(f"This account has no {kind}.")
    accepted = with_deadlock_retry(lambda: _remove(customer, LoginName(kind, value), now))
    tell_shard(accepted, now)


def _replace_username(user_id: int, login: LoginName, now: datetime) -> Verification | None:
    with transaction.atomic(using=DIRECTORY):
        lock_identity(user_id)
        owner_id = find_user_id(login)
        if owner_id == user_id:
            return None
        if owner_id is not None:
            raise LoginTaken("The username is in use.")
        Login.objects.filter(user_id=user_id, kind=LoginKind.USERNAME).delete()
        insert_login(login, user_id=user_id, now=now)
        return accept_login(login, user_id=user_id, now=now)


def _write_verification(user_id: int, login: LoginName, now: datetime) -> str:
    """Write a code for the login and return it, or nothing where the login is somebody else's."""
    if find_user_id(login) not in (None, user_id):
        return ""
    code = new_code()
    insert_verification(login, code=code, user_id=user_id, now=now)
    return code


def _remove(customer: Customer, login: LoginName, now: datetime) -> Verification:
    with transaction.atomic(using=DIRECTORY):
        lock_identity(customer.user_id)
        kept = set(
            Login.objects.filter(user_id=customer.user_id).exclude(kind=login.kind).values_list("kind", flat=True)
        )
        # Without a password only a phone logs in, by a code.
        if not (kept if customer.password else kept & {LoginKind.PHONE}):
            raise InvalidState("An account keeps a login. Add another one, or a password, first.")
        Login.objects.filter(user_id=customer.user_id, kind=login.kind).delete()
        Verification.objects.filter(user_id=customer.user_id, kind=login.kind, accepted_at__isnull=True).delete()
        return accept_removal(login, user_id=customer.user_id, now=now)
