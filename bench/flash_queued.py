"""A queued flash sale that does not run dry: how fast its queue is drained, how long a buyer waits for the outcome."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.buyers import ORDERED, Purchase, SaleBuyers
from bench.control import measure_controls
from bench.cpu import cpu_by_process, cpu_us_each
from bench.http_client import HttpClient
from bench.load import Load, percentiles, run_wrk
from bench.result import Result, Table
from bench.scenario import Buyer, Options, Scenario, Workspace, conclude
from bench.stack import STOCK_FOR_BENCH, create_sale, first_sku, manage, sold_order_ids
from bench.wrk_scenarios import SHOPPER_COUNT

_WARM_S = 2.0
_DRAINED_WITHIN_S = 180.0
_ANSWER_WITHIN_S = 12.0


@dataclass(frozen=True, slots=True)
class Drain:
    """What became of a window's purchases; it lasted until the last of them was told its outcome."""

    purchases: list[Purchase]
    requests: int
    repeats: Counter[str]
    duration_s: float

    @property
    def ordered(self) -> list[Purchase]:
        """The purchases that became orders."""
        return [purchase for purchase in self.purchases if purchase.outcome == ORDERED]


class FlashQueuedScenario(Scenario):
    """Thousands of shoppers queue for one SKU for a while and ask for their tickets until all have an outcome."""

    name = "flash-queued"

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Measure the controls, then let the shoppers queue and wait until the queue is empty."""
        buyers = workspace.buyers(SHOPPER_COUNT)
        sku = first_sku()
        sale_id = create_sale(sku, quota=STOCK_FOR_BENCH // 2, per_user_limit=999, mode="queued")
        files = [workspace.shoppers(buyers), workspace.sale(sale_id, sku)]

        def load(url: str, seconds: float) -> Load:
            return run_wrk("flash-direct", url, files, connections=options.connections, window_s=seconds)

        controls = measure_controls(load, seconds=options.seconds / 2)
        warm = asyncio.run(_queue_and_wait(options, sale_id, sku, buyers, window_s=_WARM_S))
        cpu_before = cpu_by_process()
        drain = asyncio.run(_queue_and_wait(options, sale_id, sku, buyers, window_s=options.seconds))
        cpu_after = cpu_by_process()
        stored = sum(map(len, sold_order_ids(sale_id).values())) - len(warm.ordered)
        manage("flash_sale", "end", sale_id)
        outcomes = Counter(purchase.outcome for purchase in drain.purchases)
        result = conclude(
            self.name,
            options,
            controls,
            per_second=len(drain.ordered) / drain.duration_s,
            times=percentiles([purchase.settled_after_s for purchase in drain.ordered]),
            requests=drain.requests,
            errors=dict(drain.repeats + Counter({code: n for code, n in outcomes.items() if code != ORDERED})),
            cpu_us_per_request=cpu_us_each(cpu_before, cpu_after, count=len(drain.ordered)),
            acknowledged=len(drain.ordered),
            stored=stored,
            window_s=drain.duration_s,
        )
        result.tables = [_figures(drain, options.seconds)]
        if outcomes.keys() - {ORDERED}:
            result.failures.append(f"not every ticket became an order: {dict(outcomes)}")
        if not drain.ordered:
            result.failures.append("no ticket became an order")
        return result


async def _queue_and_wait(
    options: Options, sale_id: str, sku: str, buyers: Sequence[Buyer], *, window_s: float
) -> Drain:
    """Have the buyers queue one after the other for `window_s`, then wait until every ticket has its outcome."""
    # Requests of those who buy must not wait behind those who ask for their tickets.
    client = HttpClient(options.url, size=2 * options.connections, timeout_s=_ANSWER_WITHIN_S)
    began_s = time.monotonic()
    sale = SaleBuyers(
        client,
        sale_id=sale_id,
        sku=sku,
        give_up_at_s=began_s + window_s + _DRAINED_WITHIN_S,
        rng=random.Random(options.seed),
    )
    door = asyncio.Semaphore(options.connections)
    purchases: list[asyncio.Task[Purchase]] = []
    for buyer in _until(began_s + window_s, buyers):
        async with door:  # somebody else may come in: so may this one, and nobody queues outside
            pass
        purchases.append(asyncio.create_task(sale.buy(buyer, door)))
        await asyncio.sleep(0)
    done = await asyncio.gather(*purchases)
    duration_s = time.monotonic() - began_s
    client.close()
    return Drain(done, sale.counts.requests, sale.counts.repeats, duration_s)


def _until(end_s: float, buyers: Sequence[Buyer]) -> Iterator[Buyer]:
    """Yield the buyers again and again until the time (monotonic) is over."""
    return itertools.takewhile(lambda _: time.monotonic() < end_s, itertools.cycle(buyers))


def _figures(drain: Drain, window_s: float) -> Table:
    accepted = percentiles([purchase.answered_after_s for purchase in drain.purchases])
    return Table(
        f"tickets of a window of {window_s:g} s; the percentiles above are of the time to the outcome",
        ["tickets", "tickets/s", "p50 ms to the ticket", "p99 ms to the ticket", "requests a ticket", "drained in s"],
        [
            [
                len(drain.purchases),
                round(len(drain.purchases) / window_s, 1),
                accepted.p50_ms,
                accepted.p99_ms,
                round(drain.requests / max(1, len(drain.purchases)), 1),
                round(drain.duration_s, 1),
            ]
        ],
    )


SCENARIOS = (FlashQueuedScenario,)
