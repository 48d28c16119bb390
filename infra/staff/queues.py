"""Work queues: what needs a person, wherever it lies. Each part of the shop registers its own.

A queue reads its items by a bounded scan of their own tables, oldest first, so nothing has to put an item into it, and
what has settled by itself is gone from it. Who has taken an item is kept beside (`QueueOwner`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import AbstractUser
from django.db import IntegrityError, transaction
from django.utils.functional import Promise

from infra.mysql.errors import is_duplicate_key
from infra.sharding.placement import HOME
from infra.staff.models import QueueOwner


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One thing in a queue: its key within the queue (ASCII), what it is about, since when, and what is wrong."""

    key: str
    about: str
    since: datetime
    wrong: str
    order_id: int | None = None
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class WorkStep:
    """What can be done about an item: `run(item key, reason, actor, now)` returns a line that says what it did.

    `run` raises DomainError for what cannot be done (any more).
    """

    name: str
    label: str | Promise
    run: Callable[..., str]


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue: `read(limit)` returns its oldest items and the names of databases that gave no answer."""

    name: str
    title: str | Promise
    explanation: str | Promise
    permission: str
    read: Callable[[int], tuple[Sequence[WorkItem], Sequence[str]]]
    steps: Sequence[WorkStep] = ()

    def step(self, name: str) -> WorkStep | None:
        """Return the step of this name."""
        return next((step for step in self.steps if step.name == name), None)


_queues: Final[dict[str, WorkQueue]] = {}


def register_queue(queue: WorkQueue) -> WorkQueue:
    """Add a queue to the page of queues; raises ValueError for a name that is taken."""
    if queue.name in _queues:
        raise ValueError(f"There is already a queue {queue.name!r}.")
    _queues[queue.name] = queue
    return queue


def work_queues() -> Mapping[str, WorkQueue]:
    """Return the queues by name, in the order of their registration."""
    return dict(_queues)


def owners_of(queue: str, items: Collection[str]) -> dict[str, QueueOwner]:
    """Return who has taken which of the items."""
    rows = QueueOwner.objects.using(HOME).filter(queue=queue, item__in=list(items))
    return {row.item: row for row in rows}


def take_item(staff: AbstractUser, *, queue: str, item: str, now: datetime) -> QueueOwner:
    """Make the account the owner of an item; returns the owner, who may have been quicker.

    Concurrency: a unique key lets one of several have it.
    """
    owner = QueueOwner(queue=queue, item=item, staff_id=staff.pk, staff_name=staff.get_username(), taken_at=now)
    try:
        with transaction.atomic(using=HOME):
            owner.save(using=HOME, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        return QueueOwner.objects.using(HOME).get(queue=queue, item=item)
    return owner


def give_item_back(staff: AbstractUser, *, queue: str, item: str) -> None:
    """Let go of an item that the account has taken."""
    QueueOwner.objects.using(HOME).filter(queue=queue, item=item, staff_id=staff.pk).delete()


def forget_item(*, queue: str, item: str) -> None:
    """Forget who has taken an item that is settled."""
    QueueOwner.objects.using(HOME).filter(queue=queue, item=item).delete()
