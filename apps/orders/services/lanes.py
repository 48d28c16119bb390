"""The lanes in which drafts of one shard are committed together: one for normal orders, one for flash sales."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from django.conf import settings
from django.utils import timezone

from infra.errors import Overloaded
from infra.groupcommit.lane import Lane

Draft = TypeVar("Draft")
Outcome = TypeVar("Outcome")


class CommitLanes(Generic[Draft, Outcome]):
    """A lane for each shard, made on first use; where batches are off, each draft is committed by its own request.

    `commit` takes an alias, drafts of that shard and the time, and returns each one's outcome, in the order given.
    """

    def __init__(self, name: str, commit: Callable[[str, Sequence[Draft], datetime], Sequence[Outcome]]) -> None:
        self._name = name
        self._commit = commit
        self._lanes: dict[str, Lane[Draft, Outcome]] = {}
        self._making = threading.Lock()

    def submit(self, alias: str, draft: Draft, *, waited_s: float, now: datetime) -> Outcome:
        """Have the draft committed with those that wait for the same shard; `waited_s` is what its request has waited.

        A draft that was not begun by the claim deadline is withdrawn: nothing is claimed for a client that has gone.
        Raises Overloaded then, and OutcomeUnknown for one that was begun and has no outcome by the answer's deadline.
        """
        begin_within_s = settings.ORDER_CLAIM_DEADLINE_S - waited_s
        if begin_within_s <= 0:
            raise Overloaded("The request has waited too long. Nothing was taken.")
        if settings.ORDER_COMMIT_BATCH <= 1:
            return self._commit(alias, [draft], now)[0]
        lane = self._lanes.get(alias) or self._make(alias)
        return lane.submit(draft, begin_within_s=begin_within_s, answer_within_s=settings.ORDER_ANSWER_DEADLINE_S)

    def _make(self, alias: str) -> Lane[Draft, Outcome]:
        def commit(drafts: Sequence[Draft]) -> Sequence[Outcome]:
            return self._commit(alias, drafts, timezone.now())

        with self._making:
            if alias not in self._lanes:
                self._lanes[alias] = Lane(
                    f"{self._name}-{alias}",
                    commit,
                    capacity=settings.ORDER_COMMIT_CAPACITY,
                    max_batch=settings.ORDER_COMMIT_BATCH,
                    linger_s=settings.ORDER_COMMIT_LINGER_S,
                )
            return self._lanes[alias]
