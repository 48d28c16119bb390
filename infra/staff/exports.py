"""Files that are too long for a request: made in the background, a part at a time, fetched by who asked, then gone.

A part is read from wherever its rows lie, and then written together with where the next one begins, if nobody else has
written it meanwhile. So any number of workers may be at it, and a killed one loses nothing but its last part.
"""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import OperationalError, transaction
from django.utils.functional import Promise

from infra.errors import LimitReached
from infra.sharding.placement import HOME
from infra.staff.models import Export, ExportPart

MAX_OPEN: Final = 3
_BUDGET_S: Final = 20.0
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class ExportSlice:
    """What one reading brought: rows, where the next begins (None at the end), the share that is behind it (0 to 1)."""

    rows: Sequence[Sequence[object]]
    position: Any
    share: float


@dataclass(frozen=True, slots=True)
class ExportKind:
    """A kind of file: `read(query, position)` returns its next slice; it raises OperationalError to be asked again."""

    name: str
    title: str | Promise
    permission: str
    header: Sequence[str]
    read: Callable[[Mapping[str, Any], Any], ExportSlice]


_kinds: Final[dict[str, ExportKind]] = {}


def register_export(kind: ExportKind) -> ExportKind:
    """Add a kind of file; raises ValueError for a name that is taken."""
    if kind.name in _kinds:
        raise ValueError(f"There is already an export {kind.name!r}.")
    _kinds[kind.name] = kind
    return kind


def export_kind(name: str) -> ExportKind | None:
    """Return a kind of file by its name."""
    return _kinds.get(name)


def request_export(
    staff: AbstractUser, *, kind: ExportKind, query: Mapping[str, Any], reason: str, now: datetime
) -> Export:
    """Ask for a file; a worker begins within seconds. Raises LimitReached for who has asked for several already."""
    own = Export.objects.using(HOME).filter(staff_id=staff.pk, state=Export.State.WAITING)
    if own.count() >= MAX_OPEN:
        raise LimitReached(f"At most {MAX_OPEN} files are made for one account at a time.")
    export = Export(
        staff_id=staff.pk,
        staff_name=staff.get_username(),
        kind=kind.name,
        query=dict(query),
        reason=reason,
        made_at=now,
        updated_at=now,
        expires_at=now + timedelta(seconds=settings.EXPORT_LIFETIME_S),
    )
    export.save(using=HOME, force_insert=True)
    return export


def run_exports(*, now: datetime) -> int:
    """Write parts of the files that wait, oldest first, for some seconds; returns how many parts."""
    ends_at = time.monotonic() + _BUDGET_S
    part_count = 0
    waiting = Export.objects.using(HOME).filter(state=Export.State.WAITING, expires_at__gt=now).order_by("id")
    for export in list(waiting[:100]):
        while export.state == Export.State.WAITING and time.monotonic() < ends_at:
            if not _write_part(export, now=now):
                break
            part_count += 1
    return part_count


def expire_exports(*, now: datetime) -> int:
    """Delete the parts of files whose time is over; returns how many files."""
    over = Export.objects.using(HOME).filter(expires_at__lte=now).exclude(state=Export.State.EXPIRED)
    ids = list(over.values_list("id", flat=True)[:100])
    for export_id in ids:
        with transaction.atomic(using=HOME):
            Export.objects.using(HOME).filter(id=export_id).update(state=Export.State.EXPIRED, updated_at=now)
            ExportPart.objects.using(HOME).filter(export_id=export_id).delete()
    return len(ids)


def exports_of(staff: AbstractUser, *, limit: int) -> list[Export]:
    """Return the files that an account has asked for, newest first."""
    return list(Export.objects.using(HOME).filter(staff_id=staff.pk).order_by("-id")[:limit])


def text_of(export: Export) -> Iterator[str]:
    """Yield the file, part by part; begins with a byte order mark, by which spreadsheets know UTF-8."""
    yield "\ufeff"
    for n in range(export.part_count):
        yield ExportPart.objects.using(HOME).get(export_id=export.id, n=n).text


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV (RFC 4180) in which no cell is a formula to a spreadsheet (OWASP, CSV injection)."""
    output = io.StringIO()
    writer = csv.writer(output)
    for row in rows:
        writer.writerow([neutral(cell) for cell in row])
    return output.getvalue()


def neutral(cell: object) -> str:
    """Return a cell's text; one that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text


def _write_part(export: Export, *, now: datetime) -> bool:
    """Write the next part of a file, and move `export` on; False if it has to wait or somebody else has written it."""
    kind = _kinds.get(export.kind)
    if kind is None:
        return _move_on(export, None, state=Export.State.FAILED, error="unknown kind", now=now)
    try:
        got = kind.read(export.query, export.position)
    except OperationalError:
        return False  # the next round asks again
    text = csv_text([kind.header, *got.rows] if export.part_count == 0 else got.rows)
    row_count = export.row_count + len(got.rows)
    is_cut = got.position is not None and row_count >= settings.EXPORT_MAX_ROWS
    is_done = got.position is None or is_cut
    return _move_on(
        export,
        text,
        state=Export.State.READY if is_done else Export.State.WAITING,
        error=f"cut at {row_count} rows" if is_cut else "",
        now=now,
        position=got.position,
        row_count=row_count,
        share=1.0 if is_done else got.share,
    )


def _move_on(export: Export, text: str | None, *, state: str, error: str, now: datetime, **changes: Any) -> bool:
    changes |= {"state": state, "error": error, "updated_at": now}
    if text is not None:
        changes["part_count"] = export.part_count + 1
    with transaction.atomic(using=HOME):
        rows = Export.objects.using(HOME).filter(id=export.id, part_count=export.part_count, state=Export.State.WAITING)
        if rows.update(**changes) != 1:
            return False
        if text is not None:
            ExportPart(export_id=export.id, n=export.part_count, text=text).save(using=HOME, force_insert=True)
    for name, value in changes.items():
        setattr(export, name, value)
    return True
