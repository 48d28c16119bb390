"""Floodgate's own processes: prepared (schemas, catalog, sample login), started, and waited for."""

import hashlib
import http.client
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local import processes
from deploy.local.errors import StackError
from deploy.local.instance import ROOT, Instance
from deploy.local.prerequisites import VENV, tail
from deploy.local.supervision import Program, Supervisor, programs_of

_READY_TIMEOUT_S = 180
_PREPARE_TIMEOUT_S = 600
# A program that has been started so often without staying is broken, not slow.
_MAX_STARTS = 4
# A program that cannot start ends within its first seconds, once it has read its code and settings.
_STAYED_S = 4
_STAYED_AFTER_RESTART_S = 10

_CODE_FOLDERS = ("apps", "config", "deploy", "infra")
_SERVER_FOLDER = "infra/http"


def start(instance: Instance, supervisor: Supervisor) -> None:
    """Bring the processes up with the code and settings as they are now, and print how to use them.

    Quick when all of them already run so. Raises StackError with the reason and the end of the log otherwise.
    """
    version_path = instance.run_folder / "application.version"
    before = version_path.read_text().split() if version_path.exists() else []
    version = _version(instance)
    states = supervisor.states()
    is_current = before == version
    all_run = all(state.state == "RUNNING" for state in states.values())
    if not (is_current and all_run and _ready_status(instance) == "ok"):
        if is_current:
            # Prepared by an earlier start with the same code; only time has gone by since.
            _manage(instance, "create_months")
        else:
            _prepare(instance)
        programs = [program for program in programs_of(instance) if not program.is_server]
        replaced = _start_programs(programs, supervisor, is_current=is_current, can_reload=before[:1] == version[:1])
        _wait_until_ready(instance, supervisor, replaced)
        version_path.write_text(" ".join(version))
    print(_usage(instance))


def _version(instance: Instance) -> list[str]:
    """Digests of what a process reads once and of all the rest: when one differs, running processes are out of date.

    The environment, the packages and the server around the workers are the first; a `HUP` brings the rest.
    """
    once = hashlib.sha256("\n".join(instance.export_lines()).encode())
    once.update((ROOT / "requirements" / "base.txt").read_bytes())
    _add_files(once, _SERVER_FOLDER)
    rest = hashlib.sha256()
    for folder in _CODE_FOLDERS:
        _add_files(rest, folder)
    return [once.hexdigest(), rest.hexdigest()]


def _add_files(digest: "hashlib._Hash", folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*")):
        if not path.is_file() or path.parent.name == "__pycache__":
            continue
        status = path.stat()
        digest.update(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\n".encode())


def _prepare(instance: Instance) -> None:
    """Schemas, this and the next months, static files, catalog and stock, the sample login: what is missing of each."""
    print("preparing the databases", flush=True)
    (instance.log_folder / "prepare.log").unlink(missing_ok=True)
    _manage(instance, "migrate_all")
    # None of these needs another's result, but for the stock, whose SKUs are the catalog's.
    steps: tuple[tuple[tuple[str, ...], ...], ...] = (
        (("create_months",), ("migrate_months", "--pause", "0"), ("sync_roles",)),
        (("load_catalog", "--quiet-report"), ("seed_stock",)),
        (("collectstatic", "--noinput", "--verbosity", "0"), ("sample_login",)),
    )
    with ThreadPoolExecutor() as pool:
        *_, sample = pool.map(lambda commands: [_manage(instance, *words) for words in commands][-1], steps)
    path = instance.run_folder / "sample-login"
    path.touch(mode=0o600)
    path.write_text(sample)


def _manage(instance: Instance, *words: str) -> str:
    """Run a management command; its output is logged, and returned."""
    log = instance.log_folder / "prepare.log"
    command = [str(VENV / "bin" / "python"), "manage.py", *words]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | instance.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PREPARE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`manage.py {' '.join(words)}` did not end within {_PREPARE_TIMEOUT_S} s") from error
    told = f"\n== manage.py {' '.join(words)}\n{done.stdout}{done.stderr}"
    with log.open("a") as output:
        output.write(told)
    if done.returncode != 0:
        end = "\n".join(f"    {line}" for line in told.splitlines()[-15:])
        raise StackError(f"`manage.py {' '.join(words)}` failed; the end of its part of {log}:\n{end}")
    return done.stdout


def _start_programs(
    programs: list[Program], supervisor: Supervisor, *, is_current: bool, can_reload: bool
) -> dict[str, set[int]]:
    """Start what does not run; let what runs with old code take up the new one.

    Returns the processes of programs that replace them by themselves, by program: until they are gone old code runs.
    """
    states = supervisor.states()
    to_start = []
    replaced = {}
    for program in programs:
        state = states[program.name].state
        if state in {"RUNNING", "STARTING"} and is_current:
            continue
        if state == "RUNNING" and program.reloads_on_hangup and can_reload:
            # gunicorn replaces its workers one by one and drops no request.
            replaced[program.name] = processes.children_of(states[program.name].process_id)
            supervisor.signal(program.name, "HUP")
        else:
            to_start.append(program)
    supervisor.stop_all(to_start)
    for program in to_start:
        supervisor.start(program.name)
    return replaced


def _wait_until_ready(instance: Instance, supervisor: Supervisor, replaced: dict[str, set[int]]) -> None:
    print("starting", flush=True)
    deadline = time.monotonic() + _READY_TIMEOUT_S
    seen_process_ids: dict[str, set[int]] = defaultdict(set)
    while True:
        states = supervisor.states()
        waiting_for = [state.name for state in states.values() if state.state != "RUNNING"]
        waiting_for += [
            f"{program.name} on port {instance.ports[port]}"
            for program in programs_of(instance)
            for port in program.ports
            if processes.port_is_free(instance.ports[port])
        ]
        waiting_for += [
            f"{name} to replace its processes"
            for name, process_ids in replaced.items()
            if process_ids & processes.children_of(states[name].process_id)
        ]
        for state in states.values():
            seen_process_ids[state.name].add(state.process_id)
            restarted = len(seen_process_ids[state.name] - {0}) > 1
            if state.state == "RUNNING" and state.uptime_s < (_STAYED_AFTER_RESTART_S if restarted else _STAYED_S):
                waiting_for.append(f"{state.name} to stay up")
        status = _ready_status(instance)
        if not waiting_for and status == "ok":
            return
        for state in states.values():
            if len(seen_process_ids[state.name] - {0}) >= _MAX_STARTS:
                raise StackError(
                    f"{state.name} does not stay up; the end of its log:\n{_tail_of(instance, state.name)}"
                )
        if time.monotonic() > deadline:
            what = ", ".join(waiting_for) or f"readiness, which says {status!r}"
            name = waiting_for[0].split()[0] if waiting_for else "gunicorn"
            raise StackError(
                f"not ready after {_READY_TIMEOUT_S} s; waiting for {what}; the end of {name}'s log:\n"
                f"{_tail_of(instance, name)}"
            )
        time.sleep(0.2)


def _ready_status(instance: Instance) -> str:
    """What the readiness check says: ok, degraded or down; empty when nobody answers."""
    url = f"http://127.0.0.1:{instance.ports['public']}/healthz/ready"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""


def _tail_of(instance: Instance, name: str) -> str:
    return tail(instance.log_folder / f"{name}.log", line_count=25)


# -- what is shown to the person who started it --------------------------------------------------------------


def _usage(instance: Instance) -> str:
    ports = instance.ports
    api = f"http://127.0.0.1:{ports['public']}/api/v1"
    lines = [
        "Floodgate is ready.",
        f"  API          {api}",
        f"  API pages    http://127.0.0.1:{ports['public']}/api/docs",
        f"  staff        http://127.0.0.1:{ports['staff']}/admin/",
        f"  metrics      http://127.0.0.1:{ports['staff']}/metrics",
        f"  sandbox bank http://127.0.0.1:{ports['sandbox']}",
    ]
    if instance.nginx is None:
        lines.append("  there is no nginx on this machine: gunicorn answers on the public port itself")
    sample = _sample_login(instance.run_folder / "sample-login")
    sku = _any_sku(api)
    if sample and sku:
        credentials = json.dumps({"login": sample["login"], "password": sample["password"]})
        order = json.dumps({"items": [{"sku": sku, "quantity": 1}], "address_id": sample["address_id"]})
        read_token = "python3 -c 'import json,sys; print(json.load(sys.stdin)[\"access\"])'"
        lines += [
            f"  sample login {sample['login']}  password {sample['password']}",
            "",
            "A first order:",
            f"  TOKEN=$(curl -s {api}/auth/token -H 'Content-Type: application/json' \\",
            f"    -d '{credentials}' | {read_token})",
            f'  curl -s {api}/orders -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $(date +%s%N)" \\',
            f"    -H 'Content-Type: application/json' -d '{order}'",
        ]
    return "\n".join(lines)


def _sample_login(path: Path) -> dict[str, str]:
    """What `manage.py sample_login` printed on its last line: login, password and address_id as JSON."""
    try:
        return dict(json.loads(path.read_text().strip().splitlines()[-1]))
    except (OSError, ValueError, IndexError):
        return {}


def _any_sku(api: str) -> str:
    """A SKU that can be bought, for the example."""
    try:
        with urllib.request.urlopen(f"{api}/products?limit=20", timeout=5) as answer:
            products = json.load(answer)["results"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return ""
    skus = [sku for product in products for sku in product["skus"] if sku.get("available")]
    return str(skus[0]["sku"]) if skus else ""
