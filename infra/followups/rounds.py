"""Rounds over databases in background tasks, in which one that is away holds up none of the others."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import connections

from infra.events.outages import Outage, is_outage
from infra.sharding.places import shard_aliases

logger = logging.getLogger(__name__)

_lock: Final = threading.Lock()
_outages: Final[dict[str, Outage]] = {}
_paused_until: Final[dict[str, float]] = {}


def shard_round(name: str, work: Callable[[str], int]) -> dict[str, int]:
    """Call `work(alias)` for every shard; see `round_over`."""
    return round_over(shard_aliases(), name, work)


def round_over(aliases: Iterable[str], name: str, work: Callable[[str], int]) -> dict[str, int]:
    """Call `work(alias)` for each database; returns what it returned, without the databases that failed.

    What fails is logged and not raised, since the next round comes by itself; only the end of the task's own time is.
    A database that is away is left alone by this process for SHARD_PAUSE_S seconds, so that waiting for it does not eat
    the time of the others.
    """
    results: dict[str, int] = {}
    for alias in aliases:
        if _paused_until.get(alias, 0.0) > time.monotonic():
            continue
        try:
            results[alias] = work(alias)
        except SoftTimeLimitExceeded:
            connections.close_all()
            raise
        except Exception as error:
            if is_outage(error):
                _pause(alias, error)
            else:
                logger.exception("%s failed on %s", name, alias)
            connections.close_all()
        else:
            _resume(alias)
    return results


def _pause(alias: str, error: Exception) -> None:
    with _lock:
        outage = _outages.setdefault(alias, Outage(logger, f"{alias}: background work cannot go on"))
        outage.failed(error)
        _paused_until[alias] = time.monotonic() + settings.SHARD_PAUSE_S


def _resume(alias: str) -> None:
    if alias in _outages:
        with _lock:
            if (outage := _outages.pop(alias, None)) is not None:
                outage.over()
            _paused_until.pop(alias, None)
