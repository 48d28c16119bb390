"""Runs one load scenario against the running stack, checks what it left behind and writes the result.

`make bench SCENARIO=place` does this. Every figure stands beside a control measured in the same run, since machines
differ and drift: C1 is a stock gunicorn-gevent that answers the same requests with fixed bytes. The scenario fails,
with a reason, when the shards hold another number of orders than were acknowledged or the audit finds anything.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import django

django.setup()

from bench.registry import SCENARIOS
from bench.report import write_report
from bench.result import RESULTS, save, show
from bench.scenario import Options, Workspace


def main() -> int:
    """Run the scenario named on the command line; returns the process's exit code."""
    told = "\n".join(f"  {name:14} {(scenario.__doc__ or '').splitlines()[0]}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"scenarios:\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", choices=list(SCENARIOS))
    parser.add_argument("--connections", type=int, help="of the clients (default: the scenario's own)")
    parser.add_argument("--seconds", type=float, default=15, help="of the measured load (default: 15)")
    parser.add_argument("--at", choices=["internal", "public"], help="gunicorn's port or nginx's (default: its own)")
    parser.add_argument("--seed", type=int, help="of what happens at random (default: another each time; printed)")
    parser.add_argument("--buyers", type=int, default=20_000, help="of the flood, for a quarter as many units")
    parser.add_argument("--orders", type=int, default=3_000_000, help="past ones that stand beside the staff's pages")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where results are written")
    arguments = parser.parse_args()

    scenario = SCENARIOS[arguments.scenario]()
    options = Options(
        connections=arguments.connections or scenario.connections,
        seconds=arguments.seconds,
        at=arguments.at or scenario.at,
        seed=secrets.randbits(32) if arguments.seed is None else arguments.seed,
        buyers=arguments.buyers,
        orders=arguments.orders,
    )
    with tempfile.TemporaryDirectory(prefix="floodgate-bench-") as folder:
        result = scenario.run(options, Workspace(Path(folder)))
    show(result)
    print(f"  written to {save(result, arguments.results)} and {write_report(arguments.results)}")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
