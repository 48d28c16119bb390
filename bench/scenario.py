"""What every scenario is, and what most of them make before they begin."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from django.conf import settings

from bench.control import Controls
from bench.load import Percentiles
from bench.result import Result
from bench.stack import STOCK_FOR_BENCH, audit_findings, manage, products


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: `at` is "internal" (gunicorn's port) or "public" (nginx's)."""

    connections: int
    seconds: float
    at: str
    seed: int
    buyers: int
    orders: int

    @property
    def url(self) -> str:
        """The address that is loaded."""
        return str(settings.INTERNAL_URL if self.at == "internal" else settings.PUBLIC_URL)


@dataclass(frozen=True, slots=True)
class Buyer:
    """A shopper as `bench_shoppers` makes them."""

    user_id: str
    access: str
    address_id: str


class Workspace:
    """A folder for one run, and the shoppers, stock and lists that its load reads from there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, lines: Iterable[str]) -> str:
        """Write a file of lines and return its path."""
        path = self._folder / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    def buyers(self, count: int) -> list[Buyer]:
        """Make shoppers over all shards."""
        made = self._folder / "shoppers.jsonl"
        manage("bench_shoppers", "--count", str(count), "--out", str(made))
        return [Buyer(**json.loads(line)) for line in made.read_text().splitlines()]

    def shoppers(self, buyers: Sequence[Buyer]) -> str:
        """Write the shoppers' tokens and addresses."""
        return self.write("shoppers.tsv", (f"{each.access}\t{each.address_id}" for each in buyers))

    def coupons(self, name: str, buyers: Sequence[Buyer], coupons: Sequence[Sequence[int]]) -> str:
        """Write the shoppers' tokens, addresses and coupons."""
        lines = zip(buyers, coupons, strict=True)
        return self.write(name, (f"{each.access}\t{each.address_id}\t{','.join(map(str, own))}" for each, own in lines))

    def sale(self, sale_id: str, sku: str) -> str:
        """Write which SKU of which sale is bought."""
        return self.write("sale.tsv", [f"{sale_id}\t{sku}"])

    def skus(self) -> str:
        """Lift the stock of every SKU, so that no order is refused, and write them."""
        skus = [sku["sku"] for product in products() for sku in product["skus"]]
        manage("adjust_stock", *skus, "--to", str(STOCK_FOR_BENCH), "--reason", "bench")
        return self.write("skus.txt", skus)

    def paths(self) -> str:
        """Write the products' addresses."""
        return self.write("paths.txt", (f"/api/v1/products/{product['id']}" for product in products()))


class Scenario(ABC):
    """A load on the running stack whose result checks itself against the shards and the audit.

    The class's defaults stand where the command line says nothing. Its docstring is what the command line shows.
    """

    name: ClassVar[str]
    connections: ClassVar[int] = 64
    at: ClassVar[str] = "internal"

    @abstractmethod
    def run(self, options: Options, workspace: Workspace) -> Result:
        """Load the stack and return what was found; whatever makes the run invalid is in the result's `failures`."""


def conclude(
    name: str,
    options: Options,
    controls: Controls,
    *,
    per_second: float,
    times: Percentiles,
    requests: int,
    errors: dict[str, int],
    cpu_us_per_request: dict[str, float],
    acknowledged: int,
    stored: int,
    window_s: float,
) -> Result:
    """Audit the stack and put the figures of a run together; what does not agree is in the result's `failures`."""
    result = Result(
        scenario=name,
        qps=round(per_second, 1),
        control_qps=round(controls.bare_qps, 1),
        ratio=round(per_second / controls.bare_qps, 4),
        **times._asdict(),
        requests=requests,
        errors=errors,
        cpu_us_per_request=cpu_us_per_request,
        acknowledged=acknowledged,
        stored=stored,
        audit_findings=audit_findings(),
        port=options.at,
        connections=options.connections,
        window_s=round(window_s, 1),
        django_control_qps=round(controls.django_qps, 1),
    )
    result.check_books()
    return result
