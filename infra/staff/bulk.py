"""The same action on many things, wherever they lie: counted first, then done one by one, with a result for each.

A worker takes an item by compare-and-set, does it by the same service as a single one, and writes what became of it. A
killed worker leaves an item `begun`; after a while another one does it again, which is safe: what is done is
idempotent, or refused because the item's version has moved on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db import OperationalError, transaction
from django.db.models import Count, Q
from django.utils.functional import Promise

from infra.errors import DomainError, InvalidState
from infra.sharding.placement import HOME
from infra.staff.models import BulkItem, BulkJob

MAX_ITEMS: Final = 1000
_BUDGET_S: Final = 20.0
_AGAIN_AFTER_S: Final = 120
_DETAIL_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Counted:
    """One thing as it was counted: its version, and why the action cannot be taken on it (empty: it can)."""

    target_id: int
    version: int
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class BulkKind:
    """An action for many: `count` looks at the things, `run` does one of them and returns what to tell.

    `run(target id, version, staff, reason, now)` raises DomainError for what cannot be done, OperationalError for a
    database that gives no answer, in which case the item waits.
    """

    name: str
    title: str | Promise
    permission: str
    count: Callable[[Sequence[int]], Sequence[Counted]]
    run: Callable[..., str]
    asks_proof: bool = False


_kinds: Final[dict[str, BulkKind]] = {}


def register_bulk(kind: BulkKind) -> BulkKind:
    """Add an action for many; raises ValueError for a name that is taken."""
    if kind.name in _kinds:
        raise ValueError(f"There is already a bulk action {kind.name!r}.")
    _kinds[kind.name] = kind
    return kind


def bulk_kinds() -> Mapping[str, BulkKind]:
    """Return the actions for many, by name."""
    return dict(_kinds)


def count_bulk(staff: AbstractUser, *, kind: BulkKind, target_ids: Sequence[int], now: datetime) -> BulkJob:
    """Look at up to MAX_ITEMS things and write down what would be done to which; nothing is done yet."""
    counted = kind.count(list(dict.fromkeys(target_ids))[:MAX_ITEMS])
    job = BulkJob(staff_id=staff.pk, staff_name=staff.get_username(), kind=kind.name, made_at=now)
    with transaction.atomic(using=HOME):
        job.save(using=HOME, force_insert=True)
        BulkItem.objects.using(HOME).bulk_create(
            BulkItem(
                job_id=job.id,
                target_id=each.target_id,
                version=each.version,
                state=BulkItem.State.UNFIT if each.unfit else BulkItem.State.WAITING,
                detail=each.unfit[:_DETAIL_LENGTH],
                made_at=now,
            )
            for each in counted
        )
    return job


def start_bulk(job: BulkJob, *, reason: str) -> None:
    """Have the job done by the workers; raises InvalidState for one that was started before.

    Concurrency: compare-and-set on the state, so of two starts one does it.
    """
    drafts = BulkJob.objects.using(HOME).filter(id=job.id, state=BulkJob.State.DRAFT)
    if drafts.update(state=BulkJob.State.RUNNING, reason=reason) != 1:
        raise InvalidState("This job was started before.")


def run_bulk_jobs(*, now: datetime) -> int:
    """Do items of the running jobs for some seconds, oldest job first; returns how many."""
    ends_at = time.monotonic() + _BUDGET_S
    done_count = 0
    for job in list(BulkJob.objects.using(HOME).filter(state=BulkJob.State.RUNNING).order_by("id")[:20]):
        done_count += _go_on(job, ends_at=ends_at, now=now)
        if time.monotonic() >= ends_at:
            break
    return done_count


def tally(job: BulkJob) -> dict[str, int]:
    """Return how many items of a job are in which state."""
    rows = BulkItem.objects.using(HOME).filter(job_id=job.id).values("state").annotate(count=Count("id"))
    return {row["state"]: row["count"] for row in rows}


def _go_on(job: BulkJob, *, ends_at: float, now: datetime) -> int:
    kind = _kinds.get(job.kind)
    staff = get_user_model().objects.filter(id=job.staff_id, is_active=True).first()
    left = (
        BulkItem.objects.using(HOME)
        .filter(job_id=job.id)
        .filter(
            Q(state=BulkItem.State.WAITING)
            | Q(state=BulkItem.State.BEGUN, begun_at__lte=now - timedelta(seconds=_AGAIN_AFTER_S))
        )
    )
    done_count = 0
    for item in list(left.order_by("id")[:MAX_ITEMS]):
        if time.monotonic() >= ends_at:
            return done_count
        if kind is None or staff is None or not staff.has_perm(kind.permission):
            _end(item, BulkItem.State.REFUSED, "Who asked for it may no longer do it.")
            continue
        if not _take(item, now=now):
            continue
        try:
            told = kind.run(item.target_id, version=item.version, staff=staff, reason=job.reason, now=now)
        except OperationalError:
            BulkItem.objects.using(HOME).filter(id=item.id).update(state=BulkItem.State.WAITING)
            return done_count  # its database is away: the next round goes on
        except DomainError as refusal:
            _end(item, BulkItem.State.REFUSED, str(refusal))
        else:
            _end(item, BulkItem.State.DONE, told)
        done_count += 1
    open_states = (BulkItem.State.WAITING, BulkItem.State.BEGUN)
    if not BulkItem.objects.using(HOME).filter(job_id=job.id, state__in=open_states).exists():
        BulkJob.objects.using(HOME).filter(id=job.id).update(state=BulkJob.State.DONE)
    return done_count


def _take(item: BulkItem, *, now: datetime) -> bool:
    """Make this worker the one that does the item; False if another was quicker."""
    rows = BulkItem.objects.using(HOME).filter(id=item.id, state=item.state, begun_at=item.begun_at)
    return rows.update(state=BulkItem.State.BEGUN, begun_at=now) == 1


def _end(item: BulkItem, state: str, detail: str) -> None:
    BulkItem.objects.using(HOME).filter(id=item.id).update(state=state, detail=detail[:_DETAIL_LENGTH])
