"""The scenarios by name: a module of scenarios is added to the tuple, and `make bench` knows them."""

from bench import ablation, c10k, flash_queued, flood, staff_pages, strategies, wrk_scenarios
from bench.scenario import Scenario

_MODULES = (wrk_scenarios, flash_queued, c10k, strategies, ablation, flood, staff_pages)

SCENARIOS: dict[str, type[Scenario]] = {scenario.name: scenario for module in _MODULES for scenario in module.SCENARIOS}
