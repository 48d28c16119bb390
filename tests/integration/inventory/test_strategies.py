"""Choosing strategies, what a process knows of them, and what claims by each of them cost and write."""

import logging
import re
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext

from apps.inventory import selectors, services
from apps.inventory.domain import Strategy
from apps.inventory.errors import ReservationConflict, TooManyStrategies, UnknownSku
from apps.inventory.models import SkuStrategy, Stock, StrategyChange
from apps.inventory.services import reserving
from apps.inventory.services.strategies import choosing, in_force
from apps.orders.services import apart
from infra.errors import Overloaded
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id
from tests.factories.strategies import ALL, choose

pytestmark = pytest.mark.django_db(databases="__all__")

# The queue's consumer works in a thread, which does not see what a test has not committed.
HERE = [strategy for strategy in ALL if strategy is not Strategy.QUEUE]


@pytest.fixture(autouse=True)
def nothing_chosen_afterwards() -> Iterator[None]:
    yield
    in_force._in_force.by_sku = {}


def choices(*skus: str) -> dict[str, str]:
    return dict(SkuStrategy.objects.filter(sku__in=skus).values_list("sku", "strategy"))


def test_a_choice_is_kept_with_who_made_it_and_why_and_merged_has_no_row() -> None:
    one, other = make_stock(1), make_stock(1)

    assert services.choose_strategy([one, other], Strategy.LOCK, reason="hot", actor="mia", now=NOW) == 2
    assert services.choose_strategy([one], Strategy.LOCK, reason="again", actor="mia", now=NOW) == 0
    assert services.choose_strategy([one, other], Strategy.QUEUE, reason="hotter", actor="ben", now=NOW) == 2
    assert choices(one, other) == {one: "queue", other: "queue"}
    assert services.choose_strategy([one], Strategy.MERGED, reason="over", actor="mia", now=NOW) == 1

    assert choices(one, other) == {other: "queue"}
    kept = StrategyChange.objects.filter(sku=one).order_by("id").values_list("before", "after", "actor", "reason")
    assert list(kept) == [
        ("merged", "lock", "mia", "hot"),
        ("lock", "queue", "ben", "hotter"),
        ("queue", "merged", "mia", "over"),
    ]


def test_a_choice_for_an_unknown_sku_or_for_too_many_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_stock(1), make_stock(1)
    with pytest.raises(UnknownSku):
        services.choose_strategy([one, "never-was"], Strategy.LOCK, reason="r", actor="a", now=NOW)
    monkeypatch.setattr(choosing, "MAX_CHOSEN", SkuStrategy.objects.count() + 1)
    with pytest.raises(TooManyStrategies):
        services.choose_strategy([one, other], Strategy.LOCK, reason="r", actor="a", now=NOW)
    assert not choices(one, other)
    assert not StrategyChange.objects.filter(sku__in=[one, other]).exists()


def test_the_command_switches_skus_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    sku = make_stock(1)
    call_command("choose_strategy", "optimistic", sku, "--reason", "trial")
    assert "1 of 1 SKUs switched to optimistic" in capsys.readouterr().out
    assert choices(sku) == {sku: "optimistic"}
    with pytest.raises(CommandError, match="never-was"):
        call_command("choose_strategy", "optimistic", "never-was", "--reason", "trial")


def test_what_is_in_force_is_read_at_once_and_lasts_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, quick, other = make_stock(1), make_stock(1), make_stock(1)
    assert services.strategy_of([slow]) is None
    choose(Strategy.QUEUE, slow)
    choose(Strategy.OPTIMISTIC, quick)
    assert services.strategy_of([other]) is None
    assert services.strategy_of([other, quick]) is Strategy.OPTIMISTIC
    assert services.strategy_of([slow, quick, other]) is Strategy.QUEUE

    def away(*args: Any) -> None:
        raise OperationalError(2002, "away")

    with monkeypatch.context() as patched:
        patched.setattr(SkuStrategy.objects, "using", away)
        with pytest.raises(OperationalError):
            in_force.refresh()
    assert services.strategy_of([slow]) is Strategy.QUEUE


def test_a_stored_strategy_that_the_code_does_not_know_is_told_and_merged(caplog: pytest.LogCaptureFixture) -> None:
    SkuStrategy.objects.create(sku="odd", strategy="magic", changed_by="mia", changed_at=NOW)
    with caplog.at_level(logging.ERROR):
        in_force.refresh()
    assert services.strategy_of(["odd"]) is None
    assert "odd" in caplog.text


def statements_of(claims: list[Any]) -> list[str]:
    with CaptureQueriesContext(connections["inventory"]) as queries:
        services.reserve(claims, now=NOW)
    return [re.split("VALUES|'", query["sql"])[0] for query in queries if "SAVEPOINT" not in query["sql"]]


def test_merged_claims_cost_no_statement_more_whatever_other_skus_are_set_to() -> None:
    sku = make_stock(50)
    batches = [[make_claim([(sku, 1)]) for _ in range(4)] for _ in range(2)]
    before = statements_of(batches[0])
    choose(Strategy.PESSIMISTIC, make_stock(1))
    assert statements_of(batches[1]) == before
    assert len(before) == 2


def test_several_claims_at_once_are_merged_whatever_their_sku_is_set_to() -> None:
    sku = make_stock(5)
    choose(Strategy.PESSIMISTIC, sku)
    assert not any("FOR UPDATE" in sql for sql in statements_of([make_claim([(sku, 1)]), make_claim([(sku, 2)])]))
    assert counters(sku) == (5, 3)


@pytest.mark.parametrize("strategy", HERE)
def test_a_claim_by_any_strategy_is_one_guarded_write_that_raises_the_version(strategy: Strategy) -> None:
    sku = make_stock(5)
    choose(strategy, sku)
    claim = make_claim([(sku, 2)], order_id=new_order_id(shard=1))

    assert services.reserve([claim], now=NOW) == {claim.order_id: ()}

    row = Stock.objects.get(sku=sku)
    assert (row.reserved, row.version) == (2, 2)
    [hold] = selectors.holds_of("inventory", [claim.order_id])
    assert (hold.state, hold.lines) == ("held", claim.lines)


@pytest.mark.parametrize("strategy", HERE)
def test_a_repeat_is_held_once_and_a_closed_order_is_refused(strategy: Strategy) -> None:
    sku = make_stock(2)
    choose(strategy, sku)
    claim = make_claim([(sku, 2)])
    for _ in range(2):
        assert services.reserve([claim], now=NOW) == {claim.order_id: ()}
    assert counters(sku) == (2, 2)
    services.release([claim.order_id], now=NOW)
    with pytest.raises(ReservationConflict):
        services.reserve([claim], now=NOW)
    assert counters(sku) == (2, 0)


@pytest.mark.parametrize("strategy", [Strategy.OPTIMISTIC, Strategy.PESSIMISTIC, Strategy.LOCK])
def test_a_sold_out_sku_is_told_from_a_plain_read(strategy: Strategy) -> None:
    sku = make_stock(0)
    choose(strategy, sku)
    statements = statements_of([make_claim([(sku, 1)])])
    assert len(statements) == 2
    assert all(sql.startswith("SELECT") and "FOR UPDATE" not in sql for sql in statements)


def test_a_claim_that_loses_every_race_is_decided_under_the_lock(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    sku = make_stock(9)
    choose(Strategy.OPTIMISTIC, sku)
    read, reads = selectors.stock_levels, []

    def overtaken(alias: str, skus: Any) -> Any:
        levels = read(alias, skus)
        services.reserve([make_claim([(sku, 1)]), make_claim([(sku, 1)])], now=NOW)  # others, each time in between
        reads.append(levels)
        return levels

    monkeypatch.setattr(selectors, "stock_levels", overtaken)
    settings.STOCK_CLAIM_ATTEMPTS = 2
    claim = make_claim([(sku, 5)])
    assert services.reserve([claim], now=NOW) == {claim.order_id: ()}
    assert (len(reads), counters(sku)) == (2, (9, 9))


def test_what_another_place_gave_goes_back_when_no_turn_came_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with SKUs of two databases, of which the tests have one: the same one under two names."""
    here, there = sorted([make_stock(3), make_stock(3)])
    choose(Strategy.OPTIMISTIC, here, there)
    hold = reserving.hold_as_chosen

    def hold_first_only(alias: str, claims: Any, *, now: Any) -> Any:
        if claims[0].lines[0][0] == there:
            raise Overloaded("no turn")
        return hold("inventory", claims, now=now)

    monkeypatch.setattr(reserving, "hold_as_chosen", hold_first_only)
    monkeypatch.setattr(reserving.places, "place_of_sku", lambda sku: f"{sku == there}")
    with pytest.raises(Overloaded):
        services.reserve([make_claim([(here, 1), (there, 1)])], now=NOW)
    row = Stock.objects.get(sku=here)
    assert (row.reserved, row.version) == (0, 3)


def test_so_many_orders_of_a_strategy_are_under_way_at_once_and_the_next_is_told(settings: Any) -> None:
    settings.ORDER_APART_WAIT_S = 0.05
    begun, may_end = [Event() for _ in range(settings.ORDER_APART_CONCURRENCY)], Event()

    def commit(number: int) -> None:
        begun[number].set()
        assert may_end.wait(10)

    threads = [
        Thread(target=lambda n=n: apart.commit_apart(Strategy.LOCK, lambda: commit(n), waited_s=0.0))
        for n in range(len(begun))
    ]
    for thread in threads:
        thread.start()
    assert all(event.wait(10) for event in begun)
    with pytest.raises(Overloaded):
        apart.commit_apart(Strategy.LOCK, lambda: None, waited_s=0.0)
    assert apart.commit_apart(Strategy.QUEUE, lambda: "in time", waited_s=0.0) == "in time"
    may_end.set()
    for thread in threads:
        thread.join()
    assert apart.commit_apart(Strategy.LOCK, lambda: "in time", waited_s=0.0) == "in time"
