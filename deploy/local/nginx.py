"""nginx in front of gunicorn: its configuration from the template, its start, and what a killed master leaves behind.

``python -m deploy.local.nginx NGINX FOLDER`` is what the supervisor runs: it ends the workers of a master that was
killed, which would go on holding the port, and becomes nginx.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.instance import ROOT, Instance
from deploy.local.prerequisites import VENV

TEMPLATE = ROOT / "deploy" / "nginx" / "nginx.conf"
PROXY_ADDRESS = "127.0.0.2"
"""Where nginx speaks to gunicorn from; who comes from elsewhere cannot pass for it (the setting TRUSTED_PROXIES)."""

LOOPBACK = ("127.0.0.0/8", "::1/128")
_PID_FILE = "nginx.master"
_ORPHANS_TIMEOUT_S = 1.0

# What nginx itself tells clients: code of the contract, status, title, detail.
_PROBLEMS = {
    "bad_request": ("bad_request", 400, "Bad request", "This is not an HTTP request."),
    "method_not_allowed": ("method_not_allowed", 405, "Method not allowed", "No address takes this method."),
    "payload_too_large": ("payload_too_large", 413, "Payload too large", "The body is too large."),
    "uri_too_long": ("uri_too_long", 414, "URI too long", "The request line is too long."),
    "rate_limited": ("rate_limited", 429, "Too many requests", "Too many requests from this address."),
    "headers_too_large": (
        "headers_too_large", 431, "Headers too large", "The headers are too large or too many.",
    ),
    "internal_error": ("internal_error", 500, "Internal error", "The error has been logged."),
    "overloaded": ("overloaded", 503, "Overloaded", "Nobody can take the request now. Nothing was taken."),
    "outcome_unknown": (
        "outcome_unknown", 503, "Outcome unknown",
        "The answer was lost. Repeat the request with the same Idempotency-Key.",
    ),
    "outcome_late": (
        "outcome_unknown", 503, "Outcome unknown",
        "No answer came in time. Repeat the request with the same Idempotency-Key.",
    ),
    "upstream_unavailable": ("upstream_unavailable", 504, "Upstream unavailable", "No answer came in time."),
}  # fmt: skip


@dataclass(frozen=True)
class Front:
    """What differs between one nginx and another.

    ``folder`` holds all that it writes. Each address may send ``requests_per_second``, ``burst`` more at once, over so
    many ``connections``; those of the ``exempt_networks`` as they like.
    """

    folder: Path
    listen: str
    upstream: str
    exempt_networks: tuple[str, ...] = LOOPBACK
    requests_per_second: int = 200
    burst: int = 400
    connections: int = 200
    answer_within_s: int = 9
    access_log: str = "off"

    @property
    def configuration_path(self) -> Path:
        """The file that nginx reads."""
        return self.folder / "conf" / "nginx.conf"

    def write_configuration(self) -> None:
        """Fill in the template."""
        for name in ("conf", "run", "data/nginx"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.configuration_path.touch(mode=0o600)
        self.configuration_path.write_text(self._configuration())

    def _configuration(self) -> str:
        values = {
            # nginx's workers are of another user only where its master is root; here they write to the same folders.
            "user": "user root root;" if os.geteuid() == 0 else "",
            "run_folder": self.folder / "run",
            "data_folder": self.folder / "data" / "nginx",
            "access_log": self.access_log,
            "exempt_networks": "\n".join(f"        {network} 1;" for network in self.exempt_networks),
            "requests_per_second": self.requests_per_second,
            "burst": self.burst,
            "connections": self.connections,
            "answer_within_s": self.answer_within_s,
            "listen": self.listen,
            "upstream": self.upstream,
            "proxy_address": PROXY_ADDRESS,
        } | {f"problem_{name}": _problem(*words) for name, words in _PROBLEMS.items()}
        return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), TEMPLATE.read_text())


def front_of(instance: Instance) -> Front:
    """The front of an instance. Under the local profiles clients on loopback are exempt from limits per address."""
    return Front(
        folder=instance.folder,
        listen=f"127.0.0.1:{instance.ports['public']}",
        upstream=f"127.0.0.1:{instance.ports['internal']}",
    )


def configure(instance: Instance) -> None:
    """Write the configuration and have nginx check it; nothing where there is no nginx. Raises StackError."""
    if instance.nginx is None:
        return
    front = front_of(instance)
    front.write_configuration()
    checked = subprocess.run(
        [*nginx_command(instance.nginx, front.folder), "-t"], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        raise StackError(f"nginx refuses {front.configuration_path}:\n{checked.stderr.strip()}")


def program_command(nginx: str, folder: Path) -> tuple[str, ...]:
    """The command that the supervisor runs."""
    return (str(VENV / "bin" / "python"), "-m", "deploy.local.nginx", nginx, str(folder))


def nginx_command(nginx: str, folder: Path) -> list[str]:
    """The command that runs nginx itself; it names the folder, by which a left-over one is recognised."""
    return [nginx, "-e", "stderr", "-p", f"{folder}/", "-c", "conf/nginx.conf"]


def end_orphans(folder: Path) -> None:
    """End the workers of a master that was killed, in good order where they can.

    They are known by their process group, which was the master's, and by their name.
    """
    path = folder / "run" / _PID_FILE
    with suppress(OSError, ValueError):
        group = int(path.read_text())
        deadline = time.monotonic() + _ORPHANS_TIMEOUT_S
        number = signal.SIGQUIT  # no new clients; what has been taken is answered
        while orphans := _workers_without_master(group):
            for process_id in orphans:
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGCONT)
                    os.kill(process_id, number)
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            time.sleep(0.05)


def _workers_without_master(group: int) -> list[int]:
    """The nginx processes of a group whose leader is gone."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().partition(" (")[2].rpartition(") ")
            state, _, its_group = rest.split()[:3]
            if name == "nginx" and int(its_group) == group and state not in {"Z", "X"}:
                members.append(int(path.parent.name))
    return [] if group in members else members


def _problem(code: str, status: int, title: str, detail: str) -> str:
    """A problem's JSON as a quoted string of nginx's configuration holds it."""
    kind = f"urn:floodgate:problem:{code}"
    body = {"type": kind, "title": title, "status": status, "detail": detail, "code": code, "trace_id": "$request_id"}
    return json.dumps(body)


def main(arguments: Sequence[str]) -> None:
    """Become nginx."""
    nginx, folder = arguments[0], Path(arguments[1])
    end_orphans(folder)
    os.execv(nginx, nginx_command(nginx, folder))


if __name__ == "__main__":
    main(sys.argv[1:])
