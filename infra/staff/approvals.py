"""Four eyes: what one has asked for is done once a second person has agreed, and never by the first alone."""

from datetime import datetime

from django.contrib.auth.models import AbstractUser

from infra.errors import InvalidState, PermissionDenied
from infra.sharding.placement import HOME
from infra.staff.models import Approval


def ask_approval(
    staff: AbstractUser, *, kind: str, target_id: int, version: int, reason: str, now: datetime
) -> Approval:
    """Write down what is asked for; raises InvalidState where the same waits for its second person already."""
    waiting = Approval.objects.using(HOME).filter(
        kind=kind, target_id=target_id, version=version, state=Approval.State.WAITING
    )
    if waiting.exists():
        raise InvalidState("This waits for a second person already.")
    approval = Approval(
        kind=kind,
        target_id=target_id,
        version=version,
        reason=reason,
        asked_by=staff.pk,
        asked_name=staff.get_username(),
        asked_at=now,
    )
    approval.save(using=HOME, force_insert=True)
    return approval


def decide(approval: Approval, staff: AbstractUser, *, is_approved: bool, now: datetime) -> None:
    """Note the second person's word. Raises PermissionDenied for who asked, InvalidState for what is decided.

    Concurrency: compare-and-set on the state, so one of several words counts, and what is approved is done once.
    """
    if approval.asked_by == staff.pk:
        raise PermissionDenied("Somebody else has to agree to it.")
    waiting = Approval.objects.using(HOME).filter(id=approval.id, state=Approval.State.WAITING)
    changed = waiting.update(
        state=Approval.State.APPROVED if is_approved else Approval.State.REJECTED,
        decided_by=staff.pk,
        decided_name=staff.get_username(),
        decided_at=now,
    )
    if changed != 1:
        raise InvalidState("This was decided already.")


def note_outcome(approval: Approval, detail: str) -> None:
    """Write what became of it."""
    Approval.objects.using(HOME).filter(id=approval.id).update(detail=detail[:200])


def latest_approvals(*, limit: int) -> list[Approval]:
    """Return what waits, oldest first, and then what was decided last."""
    rows = Approval.objects.using(HOME)
    waiting = list(rows.filter(state=Approval.State.WAITING).order_by("id")[:limit])
    decided = list(rows.exclude(state=Approval.State.WAITING).order_by("-id")[:limit])
    return waiting + decided
