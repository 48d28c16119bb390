"""Ending an account: at once on the customer's row, then in the directory, then everywhere else that it left traces.

The transaction that ends the account leaves an erasure row on the shard. `drive_erasures` works it off: it frees the
logins in the directory, deletes what the users app holds, and has the other apps erase theirs step by step. A killed
run goes on where it was. The row stays, without personal data, as the proof that and when it was done.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import Final

from django.db import OperationalError

from apps.users.errors import AccountInUse
from apps.users.events import ERASED, advance_customer
from apps.users.holdings import ErasureStep, holdings
from apps.users.locks import lock_customer
from apps.users.models import Address, CustomerState, Erasure, SessionEndReason
from apps.users.selectors import get_customer, verified_logins
from apps.users.senders.base import Notice
from apps.users.services.account_holding import free_logins
from apps.users.services.notices import tell
from apps.users.services.sessions import end_all_sessions
from infra.sharding.places import place_of_user

_log: Final = logging.getLogger(__name__)
# A shard's turn ends after this long; the next comes by itself, and a task has to end in time.
_ROUND_S: Final = 5.0
# Access tokens are refused everywhere by then, and what was under way has ended.
_SETTLED_AFTER: Final = timedelta(seconds=60)
_RETRY_AFTER: Final = timedelta(minutes=5)


def erase_customer(*, user_id: int, actor: str, now: datetime) -> None:
    """End an account for good: nobody can log in, its sessions end, its personal data is erased. Idempotent.

    `actor` is who asked for it: `shopper`, or `staff:` and the account's id. Orders keep lines and amounts; what else
    they hold is erased when the law of the shop allows it (ORDER_ADDRESS_KEPT_DAYS). Raises AccountInUse,
    CustomerNotFound.
    Concurrency: no order can be placed once this has committed, since no address is left; one that commits at the same
    moment is erased when it has ended.
    """
    if get_customer(user_id).state == CustomerState.ERASED:
        return
    if any(holding.is_under_way(user_id) for holding in holdings()):
        raise AccountInUse("The account has orders under way. Cancel them, or wait until they have ended.")
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        told = verified_logins(customer)
        changes = {"username": "", "email": "", "phone": "", "display_name": "", "password": ""}
        verified = {"email_verified_at": None, "phone_verified_at": None}
        state = CustomerState.ERASED
        advance_customer(place, customer, event=ERASED, payload={}, now=now, state=state, **changes, **verified)
        end_all_sessions(place, user_id=user_id, reason=SessionEndReason.ERASED, now=now)
        Address.objects.at(place).filter(user_id=user_id).delete()
        erasure = Erasure(slot=place.slot, user_id=user_id, actor=actor, requested_at=now, due_at=now + _SETTLED_AFTER)
        erasure.save(using=place.alias, force_insert=True)
    try:
        free_logins(user_id)
    except OperationalError:
        _log.warning("the logins of %s are left for the scan to free", user_id, exc_info=True)
    tell(told, Notice.ACCOUNT_DELETED)


def drive_erasures(*, alias: str, now: datetime, limit: int = 100) -> int:
    """Go on with the erasures of a shard that are due; returns how many steps were done.

    Safe beside itself: a step is idempotent, and how far an erasure is moves by compare-and-set. One that fails is
    tried again later, and holds up none of the others.
    """
    step_count, stop_at = 0, time.monotonic() + _ROUND_S
    for erasure in Erasure.objects.on_shard(alias).filter(due_at__lte=now).order_by("due_at")[:limit]:
        while time.monotonic() < stop_at and erasure.due_at is not None and erasure.due_at <= now:
            step_count += 1
            try:
                _step(erasure, now)
            except Exception:  # noqa: BLE001 - logged, and tried again later
                _log.exception("the erasure of customer %s cannot go on now", erasure.user_id)
                _move(erasure, due_at=now + _RETRY_AFTER)
    return step_count


def _step(erasure: Erasure, now: datetime) -> None:
    """Have the next holding, by name, do its next step; the erasure is finished after the last."""
    left = [holding for holding in holdings() if holding.name >= erasure.step]
    done = left[0].erase(erasure.user_id, cursor=erasure.cursor, now=now) if left else ErasureStep("")
    if done.cursor:
        _move(erasure, step=left[0].name, cursor=done.cursor, due_at=done.not_before or now)
    elif len(left) > 1:
        _move(erasure, step=left[1].name, cursor="", due_at=now)
    else:
        _move(erasure, cursor="", due_at=None, finished_at=now)


def _move(erasure: Erasure, **changes: object) -> None:
    """Note how far an erasure is, unless another process has moved it on meanwhile."""
    place = place_of_user(erasure.user_id)
    with place.atomic():
        Erasure.objects.at(place).filter(
            user_id=erasure.user_id, step=erasure.step, cursor=erasure.cursor, due_at=erasure.due_at
        ).update(**changes)
    erasure.refresh_from_db(using=place.alias)
