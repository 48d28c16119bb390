"""Which sessions have ended: a feed on the shards, read into the memory of every process.

A row of the feed commits with the end of its session. Each shard is read by work of its own, so that a dead one does
not hold up the others, and nothing depends on Redis. Until a shard has been read for the first time, its sessions are
looked up one by one.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings

from apps.users.models import Session, SessionEnd
from infra.sharding.background import Periodic
from infra.sharding.places import place_of_user

# Beyond the longest life of a token: clocks differ, and a token may be used in the second in which it expires.
_MARGIN_S: Final = 120


class Revocations:
    """The ended sessions that may still have access tokens, as far as this process has read the feed."""

    def __init__(self) -> None:
        self._forget_at: dict[str, float] = {}
        self._read_until: dict[str, datetime] = {}
        self._readers: dict[str, Periodic] = {}
        self._lock = threading.Lock()

    def watch(self, alias: str) -> None:
        """Have the feed of a shard read, from when this process starts its background work."""
        self._readers[alias] = Periodic(
            f"revocations-{alias}",
            settings.REVOCATION_POLL_INTERVAL_S,
            lambda: self.read(alias, now=datetime.now(UTC)),
        )

    def has_ended(self, *, user_id: int, session_id: str, now: datetime) -> bool:
        """Tell whether a session has ended, at most the interval of reading late.

        No query, unless the feed of the user's shard was never read in this process; then it raises OperationalError
        when the shard cannot be reached.
        """
        if session_id in self._forget_at:
            return True
        if len(self._read_until) == len(self._readers):
            return False
        place = place_of_user(user_id)
        if place.alias in self._read_until:
            return False
        self._readers[place.alias].start_on_use()
        return (
            not Session.objects.at(place)
            .filter(user_id=user_id, id=session_id, ended_at__isnull=True, expires_at__gt=now)
            .exists()
        )

    def read(self, alias: str, *, now: datetime) -> None:
        """Read what is new in the feed of a shard, and again what is recent.

        Again, because a transaction may commit after the next one was read, and because clocks differ.
        """
        since = now - self._longest_life()
        read_until = self._read_until.get(alias)
        if read_until is not None:
            since = max(since, read_until - timedelta(seconds=settings.REVOCATION_OVERLAP_S))
        rows = SessionEnd.objects.on_shard(alias).filter(ended_at__gte=since).values_list("session_id", "ended_at")
        for session_id, ended_at in rows:
            self._note(session_id, ended_at)
        self._read_until[alias] = now
        self._forget_old(now)

    def note(self, session_id: str, *, ended_at: datetime) -> None:
        """Know of an end that this process has just committed, before the feed tells it."""
        self._note(session_id, ended_at)

    def forget(self) -> None:
        """Forget all that was read; for tests."""
        self._forget_at.clear()
        self._read_until.clear()

    def _note(self, session_id: str, ended_at: datetime) -> None:
        self._forget_at[session_id] = (ended_at + self._longest_life()).timestamp()

    def _forget_old(self, now: datetime) -> None:
        moment = now.timestamp()
        with self._lock:
            for session_id in [key for key, forget_at in tuple(self._forget_at.items()) if forget_at < moment]:
                self._forget_at.pop(session_id, None)

    @staticmethod
    def _longest_life() -> timedelta:
        lifetime_s = max(settings.ACCESS_TOKEN_LIFETIME_S, settings.BENCH_TOKEN_LIFETIME_S)
        return timedelta(seconds=lifetime_s + _MARGIN_S)


revocations: Final = Revocations()
