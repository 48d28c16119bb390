"""10,000 connections held open through nginx, over each of which an order comes every now and then."""

import threading
from pathlib import Path

from bench.control import Controls
from bench.load import ANSWER_WITHIN_S, Load, run_wrk
from bench.result import Result, Table
from bench.scenario import Options
from bench.wrk_scenarios import PlaceScenario

# Orders a second, as a share of C1: well below what is placed at most, so that what is seen is the connections' doing.
OFFERED_SHARE = 0.1
P99_BELOW_MS = 500
_LOOK_EVERY_S = 1.0
_ESTABLISHED = "01"


class C10kScenario(PlaceScenario):
    """10,000 open connections, most of them idle at any time, over which a tenth of C1 is placed as orders."""

    name = "c10k"
    connections = 10_000
    at = "public"
    control_connections = 64

    def measure(self, options: Options, files: list[str], controls: Controls) -> Load:
        """Hold the connections for the window; an order comes over each at its own time, whatever became of others."""
        self._asked = options.connections
        watch = ConnectionWatch(int(options.url.rsplit(":", 1)[1]))
        watch.start()
        measured = run_wrk(
            self.script,
            options.url,
            files,
            connections=options.connections,
            window_s=options.seconds,
            period_s=options.connections / (OFFERED_SHARE * controls.bare_qps),
            drain_s=ANSWER_WITHIN_S,
        )
        self._held = watch.stop()
        return measured

    def judge(self, result: Result, measured: Load) -> None:
        """All connections are held to the end of the window, nobody hears an error, and orders stay quick."""
        held = max(self._held, default=0)
        result.tables.append(
            Table(
                "connections held",
                ["asked for", "held at most", "seen every second", "broken or not made"],
                [[self._asked, held, " ".join(map(str, self._held)), measured.socket_errors]],
            )
        )
        if held < self._asked:
            result.failures.append(f"{held} of {self._asked} connections were held")
        if measured.socket_errors:
            result.failures.append(f"{measured.socket_errors} connections broke or were not made")
        if measured.codes or measured.answered < measured.sent:
            result.failures.append(f"{measured.sent} orders were sent, {measured.succeeded} placed: {measured.codes}")
        if measured.times.p99_ms >= P99_BELOW_MS:
            result.failures.append(f"p99 is {measured.times.p99_ms:.0f} ms, not below {P99_BELOW_MS}")


class ConnectionWatch(threading.Thread):
    """Counts the connections that a port's server has, once a second, from the kernel's table."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = f":{port:04X}"
        self._over = threading.Event()
        self._seen: list[int] = []

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(_LOOK_EVERY_S):
            rows = (line.split(maxsplit=4) for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
            self._seen.append(sum(row[1].endswith(self._port) and row[3] == _ESTABLISHED for row in rows))

    def stop(self) -> list[int]:
        """Stop, and return what was seen."""
        self._over.set()
        self.join()
        return self._seen


SCENARIOS = (C10kScenario,)
