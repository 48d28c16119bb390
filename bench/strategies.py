"""Scenario `strategies`: every way of claiming stock under the same load on one hot SKU, side by side."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.db import connections as databases
from django.utils import timezone

from apps.inventory import services as inventory
from apps.inventory.domain import Strategy
from apps.inventory.selectors import available
from bench.control import measure_controls
from bench.cpu import cpu_by_process, cpu_us_each
from bench.load import ANSWER_WITHIN_S, Load, run_wrk
from bench.result import Result, Table
from bench.scenario import Options, Scenario, Workspace, conclude
from bench.stack import STOCK_FOR_BENCH, products, stored_orders
from bench.wrk_scenarios import SHOPPER_COUNT

# A strategy holds in every worker within three seconds (docs/operations.md).
_SEEN_EVERYWHERE_S: Final = 3.0
_WARM_S: Final = 1
_SCARCE_UNITS: Final = 300
_SELL_OUT_ROUND_S: Final = 2
_MAX_ROUNDS: Final = 10
_SETTLES_WITHIN_S: Final = 15


@dataclass(frozen=True, slots=True)
class Measured:
    """What one strategy did: with plenty of stock, and on the way to the last of `_SCARCE_UNITS` and past it.

    Each order is for one unit.
    """

    load: Load
    cpu_us: dict[str, float]
    acknowledged: int
    plenty_stored: int
    plenty_units: int
    scarce_stored: int
    scarce_left: int

    @property
    def oversold(self) -> int:
        """Orders stored of units that were not there."""
        return max(0, self.scarce_stored - _SCARCE_UNITS)

    @property
    def undersold(self) -> int:
        """Units that no order has, although more buyers asked than there were units."""
        return max(0, _SCARCE_UNITS - self.scarce_stored)


class StrategiesScenario(Scenario):
    """All five strategies of claiming stock, one hot SKU each: their speeds, and oversell and undersell counted."""

    name = "strategies"

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Load one SKU a strategy with plenty of stock, then until it is sold out; a third of the time for each."""
        shoppers = workspace.shoppers(workspace.buyers(SHOPPER_COUNT))
        skus = dict(zip(Strategy, (sku["sku"] for product in products() for sku in product["skus"]), strict=False))
        files = {strategy: [shoppers, workspace.write(f"{strategy}.txt", [sku])] for strategy, sku in skus.items()}
        seconds = options.seconds / 3

        def load(strategy: Strategy, url: str, window_s: float) -> Load:
            # Whoever waits for a lock or a turn is heard out, so that what was acknowledged can be counted.
            return run_wrk(
                "place",
                url,
                files[strategy],
                connections=options.connections,
                window_s=window_s,
                drain_s=ANSWER_WITHIN_S,
            )

        controls = measure_controls(lambda url, window_s: load(Strategy.MERGED, url, window_s), seconds=seconds)
        stored_before = stored_orders()
        measured: dict[Strategy, Measured] = {}
        try:
            for strategy, sku in skus.items():
                _set_stock(sku, STOCK_FOR_BENCH)
                _choose(strategy, sku)
            time.sleep(_SEEN_EVERYWHERE_S)
            for strategy, sku in skus.items():
                measured[strategy] = _measure(partial(load, strategy, options.url), sku, seconds=seconds)
        finally:
            _choose(Strategy.MERGED, *skus.values())
            for sku in skus.values():
                _set_stock(sku, STOCK_FOR_BENCH)
        merged = measured[Strategy.MERGED]
        result = conclude(
            self.name,
            options,
            controls,
            per_second=merged.load.per_second,
            times=merged.load.times,
            requests=merged.load.answered,
            errors=merged.load.codes,
            cpu_us_per_request=merged.cpu_us,
            acknowledged=sum(each.acknowledged for each in measured.values()),
            stored=stored_orders() - stored_before,
            window_s=merged.load.window_s,
        )
        result.tables.append(_table(measured))
        for strategy, each in measured.items():
            result.failures += _failures(strategy, each)
        return result


def _measure(load: Callable[[float], Load], sku: str, *, seconds: float) -> Measured:
    """Load one SKU with plenty of stock, then until it is sold out and once more."""
    warm = load(_WARM_S)
    units_before, stored_before = _settled(sku), stored_orders()
    cpu_before = cpu_by_process()
    plenty = load(seconds)
    cpu_us = cpu_us_each(cpu_before, cpu_by_process(), count=plenty.orders)
    plenty_units = units_before - _settled(sku)
    plenty_stored = stored_orders() - stored_before
    _set_stock(sku, _SCARCE_UNITS)
    stored_before, acknowledged = stored_orders(), warm.orders + plenty.orders
    for _ in range(_MAX_ROUNDS):
        was_sold_out = _available(sku) <= 0
        acknowledged += load(_SELL_OUT_ROUND_S).orders
        if was_sold_out:
            break
    left = _settled(sku)
    return Measured(
        load=plenty,
        cpu_us=cpu_us,
        acknowledged=acknowledged,
        plenty_stored=plenty_stored,
        plenty_units=plenty_units,
        scarce_stored=stored_orders() - stored_before,
        scarce_left=left,
    )


def _table(measured: dict[Strategy, Measured]) -> Table:
    base = measured[Strategy.MERGED].load.per_second
    return Table(
        f"one SKU a strategy; then {_SCARCE_UNITS} units of it until nobody gets one",
        ["strategy", "orders/s", "to merged", "p50 ms", "p99 ms", "CPU µs", "errors", "oversold", "undersold"],
        [
            [
                strategy.value,
                round(each.load.per_second),
                f"{each.load.per_second / base:.2f}",
                each.load.times.p50_ms,
                each.load.times.p99_ms,
                round(sum(each.cpu_us.values())),
                " ".join(f"{code}={count}" for code, count in sorted(each.load.codes.items())) or "none",
                each.oversold,
                each.undersold,
            ]
            for strategy, each in measured.items()
        ],
    )


def _failures(strategy: Strategy, each: Measured) -> list[str]:
    failures = []
    if each.load.orders == 0:
        failures.append(f"{strategy}: no order was placed")
    if each.oversold or each.undersold or each.scarce_left:
        failures.append(f"{strategy}: {each.scarce_stored} orders of {_SCARCE_UNITS} units, {each.scarce_left} left")
    if each.plenty_units != each.plenty_stored:
        failures.append(f"{strategy}: {each.plenty_stored} orders are stored, {each.plenty_units} units are gone")
    return failures


def _settled(sku: str) -> int:
    """Return what can be bought of a SKU once nothing changes any more: requests outlive the load that sent them."""
    give_up_at = time.monotonic() + _SETTLES_WITHIN_S
    before = _available(sku)
    while time.monotonic() < give_up_at:
        time.sleep(1)
        now = _available(sku)
        if now == before:
            break
        before = now
    return before


def _choose(strategy: Strategy, *skus: str) -> None:
    databases.close_all()
    inventory.choose_strategy(skus, strategy, reason="bench", actor="bench", now=timezone.now())


def _set_stock(sku: str, units: int) -> None:
    databases.close_all()
    inventory.adjust(sku, to=units, reason="bench", actor="bench", now=timezone.now())


def _available(sku: str) -> int:
    databases.close_all()
    return available([sku])[sku]


SCENARIOS = (StrategiesScenario,)
