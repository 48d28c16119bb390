"""Transfers of units: whoever is killed between two steps, the sweeper brings them to their end; nothing is lost or
doubled on the way."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from apps.orders.services import flash_placement, flash_transfers
from apps.orders.services.expiry import expire_orders
from apps.orders.services.flash_sales import end_sale, raise_quota, sweep_sales
from apps.orders.services.flash_transfers import Drawn, credit, draw, resume_transfers
from apps.orders.services.stock import sync_due_stock
from apps.promotions import services as promotions
from apps.promotions.selectors import get_sale, open_transfers
from apps.promotions.services import allotments as allotment_services
from apps.promotions.services import claims as claim_services
from apps.promotions.types import CONSOLE, STOCK, Sale, Transfer
from tests.factories.orders import expire_at, make_buyer
from tests.factories.promotions import (
    allotments,
    buy,
    counters_of,
    make_sale,
    pay,
    quotas,
    sku_of,
    sold,
    transfers_under_way,
)

pytestmark = pytest.mark.usefixtures("committed")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, and what was not committed is rolled back."""


@pytest.fixture(autouse=True)
def look_again() -> None:
    flash_placement.forget_sold_out()


def raising(call: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """Return the call with a death before it, or after it."""

    def killed(*args: Any, **kwargs: Any) -> Any:
        if after:
            call(*args, **kwargs)
        raise Killed

    return killed


def kill_at(step: str, patch: pytest.MonkeyPatch) -> None:
    """Have the process die at a step of the next transfer."""
    if step == "inside the debit":
        for module in (allotment_services, claim_services, promotions):
            patch.setattr(module, "record_debit", raising(module.record_debit, after=True))
    elif step == "between debit and credit":
        patch.setattr(flash_transfers, "credit", raising(flash_transfers.credit))
    elif step == "inside the credit":
        for module in (allotment_services, promotions):
            patch.setattr(module, "record_receipt", raising(module.record_receipt, after=True))
    elif step == "between credit and done":
        patch.setattr(promotions, "mark_done", raising(promotions.mark_done))
    elif step == "after done":
        patch.setattr(promotions, "mark_done", raising(promotions.mark_done, after=True))


STEPS = [
    "inside the debit",
    "between debit and credit",
    "inside the credit",
    "between credit and done",
    "after done",
]


def die(step: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something and die at the step; then everything works again, as in the next process."""
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            act()


def settle(sale: Sale) -> None:
    """Let the sweepers do what was left undone, twice, since a repeat has to change nothing."""
    for _ in range(2):
        resume_transfers(now=timezone.now())
        sync_due_stock(now=timezone.now())
        sweep_sales(now=timezone.now())
    assert transfers_under_way(sale) == 0


@pytest.mark.parametrize("step", STEPS)
def test_allotting_out_of_stock(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = make_sale(quota=4, on_hand=20)

    die(step, monkeypatch, lambda: raise_quota(sale.id, sku_of(sale), 10, by=CONSOLE, now=timezone.now()))
    on_hand, _, allotted = counters_of(sale)
    assert sum(quotas(sale)) <= allotted <= on_hand
    settle(sale)
    flash_transfers.allot_from_stock((sale.id, sku_of(sale)), 10, now=timezone.now())

    assert counters_of(sale) == (20, 0, 10)
    assert quotas(sale) == [5, 5]


@pytest.mark.parametrize("step", STEPS)
def test_drawing_from_another_shard(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = make_sale(quota=2)
    buyers = [make_buyer(shard=0) for _ in range(2)]
    buy(sale, buyers[0])

    die(step, monkeypatch, lambda: buy(sale, buyers[1]))
    assert sum(quotas(sale)) <= 2
    settle(sale)

    assert sum(quotas(sale)) == 2
    buy(sale, buyers[1])
    assert (quotas(sale), sold(sale)) == ([2, 0], 2)


@pytest.mark.parametrize("step", STEPS)
def test_returning_what_is_unsold(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = make_sale(quota=6, on_hand=10)
    buy(sale, make_buyer(shard=0))

    die(step, monkeypatch, lambda: end_sale(sale.id, now=timezone.now()))
    assert get_sale(sale.id).state == "running", "it cannot end while a transfer is open"
    settle(sale)

    assert get_sale(sale.id).state == "ended"
    assert counters_of(sale) == (10, 0, 1)
    assert quotas(sale) == [1, 0]


@pytest.mark.parametrize("step", STEPS)
def test_returning_a_unit_that_expires_after_the_end(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = make_sale(quota=2)
    order = buy(sale, make_buyer(shard=1))
    end_sale(sale.id, now=timezone.now())
    expire_at(order.id, timezone.now() - timedelta(seconds=1))
    expire_orders(now=timezone.now())

    die(step, monkeypatch, lambda: sync_due_stock(now=timezone.now()))
    settle(sale)

    assert counters_of(sale) == (2, 0, 0)
    assert (sum(quotas(sale)), sold(sale)) == (0, 0)


SETTLING = ["begin_settling", "finish_settling"]


@pytest.mark.parametrize("step", SETTLING)
@pytest.mark.parametrize("after", [False, True])
def test_settling_a_paid_order(step: str, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = make_sale(quota=2, on_hand=5)
    order = buy(sale, make_buyer())
    pay(order)

    with monkeypatch.context() as patch:
        patch.setattr(promotions, step, raising(getattr(promotions, step), after=after))
        with pytest.raises(Killed):
            sync_due_stock(now=timezone.now())
    settle(sale)

    assert counters_of(sale) == (4, 0, 1)
    assert sum(allotment.settled for allotment in allotments(sale).values()) == 1


def open_draw(sale: Sale) -> Transfer:
    """Leave one unit of the sale on its way from shard 1 to shard 0."""
    transfer = promotions.debit_allotment("shard_1", (sale.id, sku_of(sale)), 1, creditor="shard_0", now=timezone.now())
    assert transfer is not None
    return transfer


def test_a_credit_that_comes_twice_counts_once() -> None:
    sale = make_sale(quota=2)
    transfer = open_draw(sale)

    for _ in range(3):
        credit(transfer, now=timezone.now())

    assert quotas(sale) == [2, 0]


def test_without_the_receipt_a_credit_that_comes_twice_makes_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    sale = make_sale(quota=2)
    transfer = open_draw(sale)
    monkeypatch.setattr(allotment_services, "record_receipt", lambda alias, transfer, *, now: True)

    for _ in range(2):
        credit(transfer, now=timezone.now())

    assert quotas(sale) == [3, 0]


def test_a_unit_on_its_way_is_no_reason_to_say_sold_out() -> None:
    sale = make_sale(quota=2)
    buyers = [make_buyer(shard=0) for _ in range(2)]
    buy(sale, buyers[0])
    promotions.debit_allotment("shard_1", (sale.id, sku_of(sale)), 1, creditor="shard_0", now=timezone.now())

    buy(sale, buyers[1])

    assert (quotas(sale), transfers_under_way(sale)) == ([2, 0], 0)


@pytest.mark.parametrize(("looks_twice", "told"), [(True, {Drawn.GOT, Drawn.MOVING}), (False, {Drawn.DRY})])
def test_a_unit_that_arrives_while_we_look_is_missed_by_one_look_and_not_by_two(
    looks_twice: bool, told: set[Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second case is the negative control: one look says that nothing is left, though something is."""
    sale = make_sale(quota=2, on_hand=3)
    item = sale.id, sku_of(sale)
    for shard in (0, 1):
        buy(sale, make_buyer(shard=shard))
    with monkeypatch.context() as patch:
        patch.setattr(flash_transfers, "credit", raising(flash_transfers.credit))
        # One more unit, on its way from stock to the first shard.
        with pytest.raises(Killed):
            raise_quota(sale.id, sku_of(sale), 3, by=CONSOLE, now=timezone.now())
    read, look = flash_transfers.open_transfers, flash_transfers._look
    looks: list[Any] = []

    def arriving(alias: str, **arguments: Any) -> list[Transfer]:
        if alias == "inventory":
            for transfer in read(alias, **arguments):
                flash_transfers.complete(transfer, now=timezone.now())
        return read(alias, **arguments)

    def once(asked: Any) -> Any:
        if not looks:
            looks.append(look(asked))
        return looks[0]

    monkeypatch.setattr(flash_transfers, "open_transfers", arriving)
    if not looks_twice:
        monkeypatch.setattr(flash_transfers, "_look", once)

    assert draw("shard_1", item, needed=1, smallest=1, now=timezone.now()) in told
    assert sum(quotas(sale)) - sold(sale) == 1


def test_a_credit_for_a_closed_allotment_goes_on_to_stock() -> None:
    sale = make_sale(quota=2)
    transfer = promotions.debit_allotment("shard_1", (sale.id, sku_of(sale)), 1, creditor="shard_0", now=timezone.now())
    assert transfer is not None
    for alias in settings.SHARD_ALIASES:
        promotions.close_allotments(alias, [(sale.id, sku_of(sale))], now=timezone.now())
    [returned] = open_transfers("shard_0", item=(sale.id, sku_of(sale)))
    assert (returned.creditor, returned.quantity) == (STOCK, 1)

    assert end_sale(sale.id, now=timezone.now())

    assert counters_of(sale) == (2, 0, 0)
    assert transfers_under_way(sale) == 0


def test_a_shard_that_cannot_be_reached_keeps_a_sale_from_ending_and_the_sweep_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sale = make_sale(quota=2)
    with monkeypatch.context() as patch:
        patch.setattr(promotions, "close_allotments", _away_from("shard_1", promotions.close_allotments))
        assert not end_sale(sale.id, now=timezone.now())
    assert get_sale(sale.id).state == "running"

    sweep_sales(now=timezone.now())

    assert get_sale(sale.id).state == "ended"
    assert counters_of(sale) == (2, 0, 0)


def _away_from(missing: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def reached(alias: str, *args: Any, **kwargs: Any) -> Any:
        if alias == missing:
            raise OperationalError(2002, "Can't connect")
        return call(alias, *args, **kwargs)

    return reached
