"""Collecting all that is held of a customer, for the customer: asked for, made in the background, kept for a week.

A part at a time, in one transaction with how far the collection is, so that a killed run goes on where it was.
"""

import logging
import secrets
import time
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from apps.users.domain import is_hex_id
from apps.users.errors import ExportNotFound
from apps.users.holdings import holdings
from apps.users.locks import lock_customer
from apps.users.models import DataExport, DataExportPart, DataExportState
from infra.errors import LimitReached
from infra.sharding.places import place_of_user

_log: Final = logging.getLogger(__name__)
# A shard's turn ends after this long; the next comes by itself, and a task has to end in time.
_ROUND_S: Final = 5.0
_PURGED_A_ROUND: Final = 500
_RETRY_AFTER: Final = timedelta(minutes=5)


def request_export(*, user_id: int, now: datetime) -> DataExport:
    """Ask for all that is held of a customer; raises LimitReached within a day of the last time.

    Concurrency: one customer's requests take turns on their row, so of two at once one is refused.
    """
    place = place_of_user(user_id)
    with place.atomic():
        lock_customer(place, user_id)
        recent = DataExport.objects.at(place).filter(
            user_id=user_id, requested_at__gt=now - timedelta(seconds=settings.EXPORT_APART_S)
        )
        if recent.exists():
            raise LimitReached("Data can be asked for once a day.")
        export = DataExport(slot=place.slot, user_id=user_id, id=secrets.token_hex(16), requested_at=now, due_at=now)
        export.save(using=place.alias, force_insert=True)
    return export


def list_exports(user_id: int) -> list[DataExport]:
    """Return the customer's exports that are still kept, newest first."""
    return list(DataExport.objects.for_user(user_id).filter(user_id=user_id).order_by("-requested_at"))


def get_export(user_id: int, export_id: str) -> DataExport:
    """Return one of the customer's exports; raises ExportNotFound."""
    rows = DataExport.objects.for_user(user_id).filter(user_id=user_id)
    export = rows.filter(id=export_id).first() if is_hex_id(export_id) else None
    if export is None:
        raise ExportNotFound("There is no such export.")
    return export


def get_export_part(user_id: int, export_id: str, n: int) -> DataExportPart:
    """Return a part of a finished export of the customer's; raises ExportNotFound."""
    export = get_export(user_id, export_id)
    rows = DataExportPart.objects.for_user(user_id).filter(user_id=user_id, export_id=export_id, n=n)
    part = rows.first() if export.state == DataExportState.READY else None
    if part is None:
        raise ExportNotFound("There is no such part.")
    return part


def drive_exports(*, alias: str, now: datetime, limit: int = 20) -> int:
    """Go on with the exports of a shard that were asked for; returns how many parts were written.

    One that fails is tried again later, and holds up none of the others.
    """
    part_count, stop_at = 0, time.monotonic() + _ROUND_S
    for export in DataExport.objects.on_shard(alias).filter(due_at__lte=now).order_by("due_at")[:limit]:
        try:
            while time.monotonic() < stop_at and export.due_at is not None and export.due_at <= now:
                _write_part(export, now)
                part_count += 1
        except Exception:  # noqa: BLE001 - logged, and tried again later
            _log.exception("export %s cannot go on now", export.id)
            _move(export, due_at=now + _RETRY_AFTER)
    return part_count


def purge_exports(*, alias: str, now: datetime) -> int:
    """Delete exports of a shard whose time is over, part by part; returns how many rows."""
    deleted_count = 0
    for export in (
        DataExport.objects.on_shard(alias).filter(expires_at__lt=now).order_by("expires_at")[:_PURGED_A_ROUND]
    ):
        place = place_of_user(export.user_id)
        parts = DataExportPart.objects.at(place).filter(user_id=export.user_id, export_id=export.id)
        with place.atomic():
            deleted_count += parts.delete()[0]
            deleted_count += DataExport.objects.at(place).filter(user_id=export.user_id, id=export.id).delete()[0]
    return deleted_count


def _write_part(export: DataExport, now: datetime) -> None:
    """Write the next part and move the export on, in one transaction; without effect if another process has."""
    left = [holding for holding in holdings() if holding.name >= export.step]
    part = left[0].read(export.user_id, cursor=export.cursor)
    changes: dict[str, object] = {"part_count": export.part_count + 1, "cursor": part.cursor}
    if part.cursor:
        changes["step"] = left[0].name
    elif len(left) > 1:
        changes["step"] = left[1].name
    else:
        expires_at = now + timedelta(seconds=settings.EXPORT_KEPT_S)
        changes |= {"state": DataExportState.READY, "due_at": None, "ready_at": now, "expires_at": expires_at}
    place = place_of_user(export.user_id)
    with place.atomic():
        if _move(export, **changes):
            DataExportPart(
                slot=place.slot,
                user_id=export.user_id,
                export_id=export.id,
                n=export.part_count + 1,
                content={"kind": left[0].name, "rows": part.rows},
            ).save(using=place.alias, force_insert=True)
    export.refresh_from_db(using=place.alias)


def _move(export: DataExport, **changes: object) -> bool:
    """Change an export by compare-and-set on how many parts it has; False if another process was first."""
    place = place_of_user(export.user_id)
    with place.atomic():
        rows = DataExport.objects.at(place).filter(
            user_id=export.user_id, id=export.id, part_count=export.part_count, state=DataExportState.REQUESTED
        )
        return bool(rows.update(**changes))
