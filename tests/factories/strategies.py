"""Strategies chosen for tests, and buyers who claim at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import local
from typing import Any

import pytest

from apps.inventory import services
from apps.inventory.domain import Strategy
from apps.inventory.errors import StockMismatch
from apps.inventory.models import SkuStrategy
from apps.inventory.services.strategies import in_force
from apps.inventory.types import Shortage
from infra.errors import Overloaded
from tests.factories.inventory import NOW, make_claim, new_order_id

ALL = tuple(Strategy)
MAX_TRIES = 50
_claimed: list[int] = []


def choose(strategy: Strategy, *skus: str) -> None:
    """Have the SKUs claimed so, known to this process at once."""
    services.choose_strategy(skus, strategy, reason="a test", actor="mia", now=NOW)
    in_force.refresh()


def forget_choices() -> None:
    """Have every SKU merged again, and give back what the claims of this test hold, lest every reaper look at it."""
    SkuStrategy.objects.all().delete()
    in_force.refresh()
    with suppress(StockMismatch):  # the rows that a negative control has oversold are gone
        services.release(_claimed, now=NOW)
    _claimed.clear()


def claim_once(lines: Sequence[tuple[str, int]], *, number: int = 0) -> int | None:
    """Claim for a new order; return its id if it is held, None if it is short. Asks again where it is told to."""
    claim = make_claim(lines, order_id=new_order_id(shard=number % 2))
    return None if verdict_on(claim) else claim.order_id


def verdict_on(claim: Any) -> tuple[Shortage, ...]:
    """Return the shortages of a claim, () meaning held; "overloaded" took nothing, so it is asked for again."""
    _claimed.append(claim.order_id)
    for _ in range(MAX_TRIES):
        try:
            return services.reserve([claim], now=NOW)[claim.order_id]
        except Overloaded:
            continue
    raise AssertionError("still overloaded")


class Disagreeing:
    """In place of what this process believes: each thread believes something of its own, as stale processes would."""

    def __init__(self) -> None:
        self._beliefs = local()

    @property
    def by_sku(self) -> Mapping[str, Strategy]:
        return getattr(self._beliefs, "by_sku", {})

    @contextmanager
    def believing(self, by_sku: Mapping[str, Strategy]) -> Iterator[None]:
        """Believe this for the length of the block, in this thread."""
        self._beliefs.by_sku = by_sku
        try:
            yield
        finally:
            self._beliefs.by_sku = {}


def without_guard(monkeypatch: pytest.MonkeyPatch, statements: Any) -> None:
    """Take the condition on what is left out of the claiming UPDATE; the version's stays where there is one."""
    move: Callable[..., int] = statements._move_counters

    def unguarded(alias: str, quantities: Mapping[str, int], *, changes: str, guard: str) -> int:
        kept = guard.split(" AND on_hand", maxsplit=1)[0] if guard.startswith("version") else "TRUE"
        return move(alias, quantities, changes=changes, guard=kept)

    monkeypatch.setattr(statements, "_move_counters", unguarded)
