"""The scenarios by name: a module of scenarios is added to the tuple, and `make bench` knows them."""

from bench import wrk_scenarios
from bench.scenario import Scenario

_MODULES = (wrk_scenarios,)

SCENARIOS: dict[str, type[Scenario]] = {scenario.name: scenario for module in _MODULES for scenario in module.SCENARIOS}
