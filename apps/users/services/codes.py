"""Codes that are sent on request: how often, and that each works once and has few tries."""

import hmac
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F

from apps.users.domain import new_code, wait_for_code_s
from apps.users.errors import CredentialsInvalid, TooManyCodes
from apps.users.models import DIRECTORY, CodePurpose, CodeSending, OneTimeCode
from apps.users.senders.base import SendingFailed, current_sender
from apps.users.services.directory import code_digests
from apps.users.types import LoginName
from infra.crypto.blind_index import blind_index
from infra.errors import Overloaded
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry
from infra.ratelimit.limits import address_key, is_exempt_address

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
_INVALID: Final = "The code is not valid."


def send_code(login: LoginName, purpose: CodePurpose, *, address: str, now: datetime) -> bool:
    """Send a fresh code, which takes the place of an earlier one of the same purpose; tells whether it did.

    False while the login has had as many as allowed; the code sent last is good as long as it lives. Raises
    TooManyCodes for the client's `address`.
    """
    code = count_sending(login, lambda: _write_code(login, purpose, now), address=address, now=now)
    if code is None:
        return False
    deliver_code(login, code)
    return True


def deliver_code(login: LoginName, code: str) -> None:
    """Hand a code to the carrier. Its failure is logged: who waits in vain asks again."""
    try:
        current_sender().send_code(login, code)
    except SendingFailed:
        _log.warning("a code to a %s was not sent", login.kind, exc_info=True)


def count_sending(login: LoginName, write: Callable[[], T], *, address: str, now: datetime) -> T | None:
    """Call `write` and count a sending in one transaction of the directory; None when the login had too many.

    Raises TooManyCodes for the client's `address`, Overloaded.
    Concurrency: each sending has the next number of its login and of its address, which are unique. Who finds its
    number taken rolls back and looks again, so that the limits hold whatever comes at once.
    """
    # Each failure has counted another request of this login or of this address.
    for _ in range(1 + settings.CODES_PER_LOGIN_HOUR + settings.CODES_PER_ADDRESS_HOUR):
        try:
            return with_deadlock_retry(lambda: _count_and(write, login, address, now))
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise
    raise Overloaded("Too many codes were asked for at once.")


def prove_code(logins: Sequence[LoginName], purpose: CodePurpose, code: str, *, now: datetime) -> int:
    """Count a try of the newest code of these logins, and return its id if it is the one; raises CredentialsInvalid.

    Concurrency: the try is counted before it is compared, by compare-and-set, so that parallel guesses get no extra
    ones. The code is not used up: that is `use_code`, in the transaction of what it is used for.
    """
    expected = [entry.digest for login in logins for entry in code_digests(login, _bound(purpose, code))]
    digests = [entry.digest for login in logins for entry in blind_index(login.kind, login.value)]
    newest = OneTimeCode.objects.filter(digest__in=digests, purpose=purpose).order_by("-id").first()
    if newest is None or not _count_try(newest.id, now):
        raise CredentialsInvalid(_INVALID)
    if not any(hmac.compare_digest(bytes(newest.code_digest), digest) for digest in expected):
        raise CredentialsInvalid(_INVALID)
    return newest.id


def use_code(code_id: int, *, now: datetime) -> None:
    """Use up a code that was proven; of several at once one succeeds, the others get CredentialsInvalid."""
    if not OneTimeCode.objects.filter(id=code_id, used_at__isnull=True, expires_at__gt=now).update(used_at=now):
        raise CredentialsInvalid(_INVALID)


def _count_try(code_id: int, now: datetime) -> bool:
    """Take one of the code's tries; False when none is left, or it is used or expired."""
    is_good = OneTimeCode.objects.filter(
        id=code_id, try_count__lt=settings.CODE_MAX_TRIES, used_at__isnull=True, expires_at__gt=now
    )
    return bool(is_good.update(try_count=F("try_count") + 1))


def _count_and(write: Callable[[], T], login: LoginName, address: str, now: datetime) -> T | None:
    with transaction.atomic(using=DIRECTORY):
        return write() if _may_send(login, address, now) else None


def _may_send(login: LoginName, address: str, now: datetime) -> bool:
    """Count a sending in the open transaction; False when the login had too many. Raises TooManyCodes."""
    digests = [entry.digest for entry in blind_index(login.kind, login.value)]
    most = settings.CODES_PER_LOGIN_HOUR
    of_login = list(CodeSending.objects.filter(digest__in=digests).order_by("-login_n")[:most])
    if wait_for_code_s([row.sent_at for row in of_login], now=now, apart_s=settings.CODE_APART_S, most=most):
        return False
    sending = CodeSending(digest=digests[0], login_n=1 + (of_login[0].login_n if of_login else 0), sent_at=now)
    key = address_key(address)
    if not is_exempt_address(key):
        sources = [entry.digest for entry in blind_index("address", key)]
        most = settings.CODES_PER_ADDRESS_HOUR
        of_address = list(CodeSending.objects.filter(address_digest__in=sources).order_by("-address_n")[:most])
        if wait_s := wait_for_code_s([row.sent_at for row in of_address], now=now, most=most):
            raise TooManyCodes("Too many codes were asked for from this address.", retry_after_s=wait_s)
        sending.address_digest = sources[0]
        sending.address_n = 1 + ((of_address[0].address_n or 0) if of_address else 0)
    sending.save(force_insert=True)
    return True


def _write_code(login: LoginName, purpose: CodePurpose, now: datetime) -> str:
    code = new_code()
    OneTimeCode(
        purpose=purpose,
        digest=blind_index(login.kind, login.value)[0].digest,
        code_digest=code_digests(login, _bound(purpose, code))[0].digest,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.CODE_LIFETIME_S),
    ).save(force_insert=True)
    return code


def _bound(purpose: CodePurpose, code: str) -> str:
    """Return what is hashed of a code: one of another purpose, or of a registration, is no other's."""
    return f"{purpose}:{code}"
