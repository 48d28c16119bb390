"""What buyers of a sale were answered, and how fast: counted in each process, added up in `promotions`.

A process counts in memory and adds what is new to the table every `FLUSH_INTERVAL_S`, so a request asks no database,
and the figures of all machines are in one place, also after a restart. A process that ends in good order adds what it
counted since; one that is killed loses it.
"""

import logging
import os
import threading
from collections import Counter
from typing import Final

from django.db import DatabaseError, IntegrityError
from django.db.models import F

from apps.promotions.models import SaleAnswer
from infra.mysql.retry import is_duplicate_key
from infra.sharding.background import Periodic, on_end

logger = logging.getLogger(__name__)

PROMOTIONS: Final = "promotions"
FLUSH_INTERVAL_S: Final = 2.0
BOUNDS_MS: Final = (5, 10, 25, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10_000)
"""Bounds of the classes of time; what took longer is counted with the last."""
NOT_TIMED: Final = 0
"""The class of answers that nobody waited for: those of a drain."""

_Key = tuple[int, str, int]


class _Tally:
    """What this process has counted and not added to the table yet."""

    def __init__(self) -> None:
        self.counts: Counter[_Key] = Counter()
        self.lock = threading.Lock()
        self.process_id = 0  # of the process at whose end it is added


_tally: Final = _Tally()


def count_answer(sale_id: int, answer: str, *, took_s: float | None = None) -> None:
    """Count one answer to a buyer: `ordered`, `queued`, or the code of a refusal; asks no database."""
    bound = NOT_TIMED if took_s is None else _class_of(took_s * 1000)
    with _tally.lock:
        _tally.counts[sale_id, answer, bound] += 1
        is_first = _tally.process_id != os.getpid()
        _tally.process_id = os.getpid()
    if is_first:
        on_end(_flush_at_end)
    _flushing.start_on_use()


def flush() -> None:
    """Add what was counted to the table; raises the database's error, and what was not added then stays counted."""
    with _tally.lock:
        counts, _tally.counts = _tally.counts, Counter()
    try:
        for key in sorted(counts):
            _add(key, counts[key])
            counts[key] = 0
    finally:
        with _tally.lock:
            _tally.counts.update({key: count for key, count in counts.items() if count})


def _flush_at_end() -> None:
    try:
        flush()
    except DatabaseError:
        logger.warning("answers to buyers that were counted last are lost", exc_info=True)


def _class_of(milliseconds: float) -> int:
    return next((bound for bound in BOUNDS_MS if milliseconds <= bound), BOUNDS_MS[-1])


def _add(key: _Key, count: int) -> None:
    sale_id, answer, took_ms = key
    rows = SaleAnswer.objects.using(PROMOTIONS)
    row = {"sale_id": sale_id, "answer": answer, "took_ms": took_ms}
    if rows.filter(**row).update(count=F("count") + count):
        return
    try:
        rows.create(**row, count=count)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        rows.filter(**row).update(count=F("count") + count)  # another process has just made the row


_flushing: Final = Periodic("sale-answers", FLUSH_INTERVAL_S, flush)
