"""Scenarios in which wrk sends as fast as it is answered: `place`, `place-rich`, `read`, `mixed`, `flash-direct`."""

from abc import abstractmethod
from typing import ClassVar

from bench.control import Controls, measure_controls
from bench.cpu import cpu_by_process, cpu_us_each
from bench.load import Load, run_wrk
from bench.result import Result
from bench.scenario import Options, Scenario, Workspace, conclude
from bench.stack import (
    STOCK_FOR_BENCH,
    create_sale,
    first_sku,
    grant_bench_coupons,
    grant_bench_points,
    manage,
    stored_orders,
)

SHOPPER_COUNT = 4_000
_WARM_S = 2


class WrkScenario(Scenario):
    """One of load.lua's scripts at gunicorn's port or nginx's, as long as asked, after a warming up."""

    script: ClassVar[str]
    stores_orders: ClassVar[bool] = False
    # What the controls are loaded with at most: they are to be as busy as they can be, no more.
    control_connections: ClassVar[int] = 1_000

    @abstractmethod
    def prepare(self, workspace: Workspace) -> list[str]:
        """Make what the load needs and return the files that the load script reads."""

    def measure(self, options: Options, files: list[str], controls: Controls) -> Load:
        """Load the product."""
        return run_wrk(self.script, options.url, files, connections=options.connections, window_s=options.seconds)

    def judge(self, result: Result, measured: Load) -> None:
        """Add what only this scenario tells or must hold."""

    def finish(self) -> None:
        """Undo what `prepare` opened."""

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Measure the controls, then the product."""
        files = self.prepare(workspace)

        def load(url: str, seconds: float) -> Load:
            connections = min(options.connections, self.control_connections)
            return run_wrk(self.script, url, files, connections=connections, window_s=seconds)

        controls = measure_controls(load, seconds=options.seconds / 2)
        load(options.url, _WARM_S)  # counted neither before nor after
        stored_before = stored_orders()
        cpu_before = cpu_by_process()
        measured = self.measure(options, files, controls)
        cpu_after = cpu_by_process()
        stored = stored_orders() - stored_before if self.stores_orders else 0
        self.finish()
        result = conclude(
            self.name,
            options,
            controls,
            per_second=measured.per_second,
            times=measured.times,
            requests=measured.answered,
            errors=measured.codes,
            cpu_us_per_request=cpu_us_each(cpu_before, cpu_after, count=measured.answered),
            acknowledged=measured.orders,
            stored=stored,
            window_s=measured.window_s,
        )
        if measured.succeeded == 0:
            result.failures.append("no request succeeded")
        self.judge(result, measured)
        return result


class PlaceScenario(WrkScenario):
    """Thousands of shoppers over all shards place orders of one or two real SKUs."""

    name = script = "place"
    stores_orders = True

    def prepare(self, workspace: Workspace) -> list[str]:
        """Make shoppers and stock."""
        return [workspace.shoppers(workspace.buyers(SHOPPER_COUNT)), workspace.skus()]


class PlaceRichScenario(WrkScenario):
    """Orders of three real SKUs with a coupon and points each, by thousands of shoppers; beside `place`."""

    name = script = "place-rich"
    stores_orders = True
    # An order uses up a coupon, so warming up and measuring have their own. A shopper has none left after so many
    # orders, and would be refused.
    coupons_each: ClassVar[int] = 12

    def prepare(self, workspace: Workspace) -> list[str]:
        """Make shoppers with coupons, and stock."""
        buyers, skus = workspace.buyers(SHOPPER_COUNT), workspace.skus()
        user_ids = [int(buyer.user_id) for buyer in buyers]
        grant_bench_points(user_ids)
        granted = grant_bench_coupons(user_ids, each=self.coupons_each)
        warm_count = self.coupons_each // 4
        self._files = [workspace.coupons("coupons.tsv", buyers, [own[warm_count:] for own in granted]), skus]
        return [workspace.coupons("warm.tsv", buyers, [own[:warm_count] for own in granted]), skus]

    def measure(self, options: Options, files: list[str], controls: Controls) -> Load:
        """Load the product with coupons that no order has yet."""
        return run_wrk(self.script, options.url, self._files, connections=options.connections, window_s=options.seconds)

    def judge(self, result: Result, measured: Load) -> None:
        """Refuse a run whose coupons did not last."""
        if refused := result.errors.get("coupon_not_applicable"):
            result.failures.append(f"{refused} orders found no coupon left: measure for a shorter time")


class ReadScenario(WrkScenario):
    """Details of real products, over the whole catalog."""

    name = script = "read"

    def prepare(self, workspace: Workspace) -> list[str]:
        """List the products' addresses."""
        return [workspace.paths()]


class MixedScenario(WrkScenario):
    """Nine details of products for each order."""

    name = script = "mixed"
    stores_orders = True

    def prepare(self, workspace: Workspace) -> list[str]:
        """Make shoppers and stock, and list the products' addresses."""
        return [workspace.shoppers(workspace.buyers(SHOPPER_COUNT)), workspace.skus(), workspace.paths()]


class FlashDirectScenario(WrkScenario):
    """Thousands of shoppers buy one SKU in a flash sale that does not run dry."""

    name = script = "flash-direct"
    stores_orders = True

    def prepare(self, workspace: Workspace) -> list[str]:
        """Make shoppers and open a sale."""
        shoppers = workspace.shoppers(workspace.buyers(SHOPPER_COUNT))
        sku = first_sku()
        self._sale_id = create_sale(sku, quota=STOCK_FOR_BENCH // 2, per_user_limit=999, mode="direct")
        return [shoppers, workspace.sale(self._sale_id, sku)]

    def measure(self, options: Options, files: list[str], controls: Controls) -> Load:
        """Load the product."""
        return run_wrk(self.script, options.url, files, connections=options.connections, window_s=options.seconds)

    def judge(self, result: Result, measured: Load) -> None:
        """Add what only this scenario tells or must hold."""

    def finish(self) -> None:
        """End the sale, so that its unsold units are stock again."""
        manage("flash_sale", "end", self._sale_id)


SCENARIOS = (PlaceScenario, PlaceRichScenario, ReadScenario, MixedScenario, FlashDirectScenario)
