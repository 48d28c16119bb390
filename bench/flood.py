"""The flood: far more buyers than units, while processes are killed; exactly the units are sold, once to each buyer."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests

from bench.buyers import ORDERED, Counts, Purchase, SaleBuyers
from bench.control import measure_controls
from bench.cpu import cpu_by_process, cpu_us_each
from bench.http_client import HttpClient
from bench.kills import carry_out, plan
from bench.load import Load, percentiles, run_wrk
from bench.result import Result, Table
from bench.scenario import Buyer, Options, Scenario, Workspace, conclude
from bench.stack import (
    create_sale,
    first_sku,
    manage,
    process_ids,
    sold_order_ids,
    stored_orders,
    wait_until_ready,
)
from infra.sharding.places import shard_aliases

BUYERS_PER_UNIT = 4
PER_USER_LIMIT = 1
_KILL_ROUNDS = 3
_GREEDY_EVERY = 10
_WITHIN_S = 600.0
_ANSWER_WITHIN_S = 12.0
_TOLD = frozenset({ORDERED, "sold_out", "purchase_limit_reached"})


@dataclass(slots=True)
class Flood:
    """What became of one flood, as the buyers were told and as the shards have it."""

    mode: str
    units: int
    purchases: list[Purchase]
    counts: Counts
    kills: list[str]
    duration_s: float
    stored_ids: dict[str, set[str]]
    left: int
    failures: list[str] = field(default_factory=list)

    @property
    def ordered(self) -> list[Purchase]:
        """The purchases that were told to be orders."""
        return [purchase for purchase in self.purchases if purchase.outcome == ORDERED]

    def check(self) -> None:
        """Note everything that a flood must not leave behind."""
        outcomes = Counter(purchase.outcome for purchase in self.purchases)
        told_ids = {purchase.order_id for purchase in self.ordered}
        stored_ids = set().union(*self.stored_ids.values())
        by_user = Counter(purchase.user_id for purchase in self.ordered)
        checks = {
            f"{outcomes[ORDERED]} were told that they have an order, of {self.units} units": outcomes[ORDERED]
            != self.units,
            f"{len(told_ids)} different orders were told": len(told_ids) != self.units,
            f"the shards have {len(stored_ids)} orders, and {len(told_ids - stored_ids)} of those told are missing": (
                stored_ids != told_ids
            ),
            f"{max(by_user.values(), default=0)} units went to one buyer": any(
                units > PER_USER_LIMIT for units in by_user.values()
            ),
            f"{self.left} units are left": self.left != 0,
            "a shard has sold nothing": not all(self.stored_ids.values()),
        }
        self.failures += [f"{self.mode}: {sentence}" for sentence, is_wrong in checks.items() if is_wrong]
        self.failures += [
            f"{self.mode}: {count} buyers were told {outcome!r}"
            for outcome, count in outcomes.items()
            if outcome not in _TOLD
        ]


class FloodScenario(Scenario):
    """20,000 buyers for 5,000 units of a flash sale in both modes, while processes are killed at random moments."""

    name = "flood"
    connections = 256
    at = "public"

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Flood a direct sale, then a queued one, and compare what was told with what is stored."""
        print(f"flood with --seed {options.seed}", flush=True)
        sku = first_sku()
        buyers = workspace.buyers(options.buyers)
        files = [workspace.shoppers(buyers), workspace.sale("1", sku)]

        def load(url: str, seconds: float) -> Load:
            return run_wrk("flash-direct", url, files, connections=options.connections, window_s=seconds)

        controls = measure_controls(load, seconds=options.seconds / 2)
        cpu_before = cpu_by_process()
        stored_before = stored_orders()
        floods = [self._flood(mode, sku, buyers, options) for mode in ("direct", "queued")]
        orders = [purchase for flood in floods for purchase in flood.ordered]
        purchases = [purchase for flood in floods for purchase in flood.purchases]
        duration_s = sum(flood.duration_s for flood in floods)
        requests_count = sum(flood.counts.requests for flood in floods)
        result = conclude(
            self.name,
            options,
            controls,
            per_second=len(orders) / duration_s,
            times=percentiles([purchase.settled_after_s for purchase in purchases]),
            requests=requests_count,
            errors=dict(sum((flood.counts.repeats for flood in floods), Counter())),
            cpu_us_per_request=cpu_us_each(cpu_before, cpu_by_process(), count=requests_count),
            acknowledged=len(orders),
            stored=stored_orders() - stored_before,
            window_s=duration_s,
        )
        result.tables = [_outcomes(floods), *(_kills(flood, options.seed) for flood in floods)]
        result.failures += [failure for flood in floods for failure in flood.failures]
        return result

    def _flood(self, mode: str, sku: str, buyers: Sequence[Buyer], options: Options) -> Flood:
        """Open a sale, let the buyers loose and the kills happen, end the sale, and look at the shards."""
        print(f"  {mode}", flush=True)
        rng = random.Random(f"{options.seed} {mode}")
        units = len(buyers) // BUYERS_PER_UNIT
        sale_id = create_sale(sku, quota=units, per_user_limit=PER_USER_LIMIT, mode=mode)
        began_s = time.monotonic()
        purchases, counts, kills = asyncio.run(_let_loose(sale_id, sku, buyers, options, rng))
        duration_s = time.monotonic() - began_s
        wait_until_ready()
        sale = requests.get(f"{options.url}/api/v1/flash-sales/{sale_id}", timeout=10).json()
        flood = Flood(
            mode=mode,
            units=units,
            purchases=purchases,
            counts=counts,
            kills=kills,
            duration_s=duration_s,
            stored_ids=sold_order_ids(sale_id),
            left=sale["items"][0]["left"],
        )
        manage("flash_sale", "end", sale_id)
        flood.check()
        return flood


async def _let_loose(
    sale_id: str, sku: str, buyers: Sequence[Buyer], options: Options, rng: random.Random
) -> tuple[list[Purchase], Counts, list[str]]:
    """Let every buyer buy, some of them twice at once, and the kills happen; returns what became of all."""
    client = HttpClient(options.url, size=2 * options.connections, timeout_s=_ANSWER_WITHIN_S)
    sale = SaleBuyers(client, sale_id=sale_id, sku=sku, give_up_at_s=time.monotonic() + _WITHIN_S, rng=rng)
    arrivals = [*buyers, *buyers[::_GREEDY_EVERY]]
    rng.shuffle(arrivals)
    door = asyncio.Semaphore(options.connections)
    shard_server = rng.choice([name for name in process_ids() if "-shard-" in name and not name.startswith("relay")])
    kills = plan(
        rng, rounds=_KILL_ROUNDS, progress=len(buyers) * 9 // (10 * BUYERS_PER_UNIT), shard_server=shard_server
    )
    killing = asyncio.create_task(carry_out(kills, progress=sale.counts.settled.total, rng=rng))
    purchases = await asyncio.gather(*(sale.buy(buyer, door) for buyer in arrivals))
    done = await killing
    client.close()
    return purchases, sale.counts, done


def _outcomes(floods: Sequence[Flood]) -> Table:
    """A row for each flood: what was told to how many, and how long it took."""
    codes = sorted({purchase.outcome for flood in floods for purchase in flood.purchases})
    tries, units = len(floods[0].purchases), floods[0].units
    return Table(
        f"{tries:,} tries for {units:,} units, every {_GREEDY_EVERY}th buyer's two at once",
        ["mode", "seconds", *codes, "repeats", *(f"orders on {alias}" for alias in shard_aliases())],
        [
            [
                flood.mode,
                round(flood.duration_s, 1),
                *(sum(purchase.outcome == code for purchase in flood.purchases) for code in codes),
                flood.counts.repeats.total(),
                *map(len, flood.stored_ids.values()),
            ]
            for flood in floods
        ],
    )


def _kills(flood: Flood, seed: int) -> Table:
    return Table(
        f"kill -9 in the {flood.mode} flood (--seed {seed})", ["what and when"], [[kill] for kill in flood.kills]
    )


SCENARIOS = (FloodScenario,)
