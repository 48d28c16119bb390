"""Repeats of a request within one process join the first one instead of racing it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra.idempotency.errors import RequestInProgress
from infra.idempotency.types import RequestKey

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Flight(Generic[Answer]):
    """An attempt under way; `ended` is there once somebody waits for it."""

    body_digest: bytes
    ended: threading.Event | None = None
    answer: Answer | None = None
    refusal: Exception | None = None


class InFlight(Generic[Answer]):
    """The requests being served by this process, by user and digest.

    Concurrency: for threads and greenlets (patched) alike; at most one attempt of a key runs at a time. A repeat with
    the same body shares the answer or the refusal of the attempt that it found running; with another body it waits and
    then makes its own attempt, which finds the first one's key. An attempt that is killed leaves its place to the next.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[int, bytes], _Flight[Answer]] = {}
        self._lock = threading.Lock()

    def run(self, key: RequestKey, attempt: Callable[[], Answer], *, wait_s: float) -> tuple[Answer, bool]:
        """Return the answer, and whether another attempt made it; raises what the attempt raised.

        Raises RequestInProgress when the attempt that was joined has not ended after `wait_s` seconds.
        """
        identity = (key.user_id, key.digest)
        give_up_at = time.monotonic() + wait_s
        while True:
            with self._lock:
                flight = self._flights.get(identity)
                if flight is None:
                    own: _Flight[Answer] = _Flight(key.body_digest)
                    self._flights[identity] = own
                    break
                ended = flight.ended = flight.ended or threading.Event()
            if not ended.wait(max(0.0, give_up_at - time.monotonic())):
                raise RequestInProgress("An earlier attempt with this key is still running.")
            if flight.body_digest != key.body_digest:
                continue
            if flight.refusal is not None:
                raise flight.refusal
            if flight.answer is not None:
                return flight.answer, True
        try:
            own.answer = attempt()
        except Exception as refusal:
            own.refusal = refusal
            raise
        else:
            return own.answer, False
        finally:
            with self._lock:
                del self._flights[identity]
            if own.ended is not None:
                own.ended.set()
