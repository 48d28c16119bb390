"""The supervisor of an instance: which programs it runs, how it is configured, and how it is spoken to."""

import contextlib
import http.client
import resource
import shlex
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import nginx, servers
from deploy.local.errors import StackError
from deploy.local.instance import ROOT, SHARD_COUNT, Instance
from deploy.local.prerequisites import VENV, tail

_CONSUMER_COUNT = 2
# A database that hangs holds up work on the others for no longer than this.
_IN_BACKGROUND = ("/usr/bin/env", "FLOODGATE_DB_BLOCKING_QUERY_TIMEOUT_S=5", "CELERY_SKIP_CHECKS=1")
_WORKER_OPTIONS = ("worker", "--pool", "prefork", "--concurrency", "4", "--without-gossip", "--without-mingle")
# No pid file: one that a kill left behind would keep beat from starting again.
_BEAT_OPTIONS = ("beat", "--pidfile", "")
# A few staff at a time, with queries that may be slow: threads that block, in one process.
_ADMIN_OPTIONS = ("--worker-class", "gthread", "--workers", "1", "--threads", "8")


@dataclass(frozen=True)
class Program:
    """One process under the supervisor. ``ports`` are the names of the ports that it listens on."""

    name: str
    command: tuple[str, ...]
    is_server: bool = False
    ports: tuple[str, ...] = ()
    stop_wait_s: int = 15
    priority: int = 500
    reloads_on_hangup: bool = False


@dataclass(frozen=True)
class ProcessState:
    """What the supervisor says of a process; ``state`` is supervisor's word (RUNNING, STARTING, BACKOFF, ...)."""

    name: str
    state: str
    process_id: int
    uptime_s: int
    description: str


def programs_of(instance: Instance) -> list[Program]:
    """All programs of the instance, servers first, in the order in which they start."""
    python = str(VENV / "bin" / "python")
    manage = (python, str(ROOT / "manage.py"))
    gunicorn = (python, "-m", "infra.http.server", "-c", str(ROOT / "deploy" / "local" / "gunicorn.py"))
    gunicorn_ports = ("internal",) if instance.nginx else ("public", "internal")
    programs = []
    for server in (*instance.database_servers, *instance.redis_servers):
        command = tuple(servers.command_of(instance, server))
        # A database writes all that is in memory to disk before it ends.
        programs.append(Program(server.program, command, True, (server.port_name,), stop_wait_s=120, priority=100))
    programs += [
        Program("sandbox", (python, "-m", "deploy.sandbox"), ports=("sandbox",), priority=200),
        Program(
            "gunicorn",
            (*gunicorn, *_binds(instance, *gunicorn_ports), "config.wsgi"),
            ports=gunicorn_ports,
            stop_wait_s=40,
            priority=300,
            reloads_on_hangup=True,
        ),
        Program(
            "admin",
            (*gunicorn, *_ADMIN_OPTIONS, *_binds(instance, "staff"), "config.wsgi_staff"),
            ports=("staff",),
            stop_wait_s=40,
            priority=310,
            reloads_on_hangup=True,
        ),
    ]
    if instance.nginx:
        front = nginx.program_command(instance.nginx, instance.folder)
        programs.append(Program("nginx", front, ports=("public",), priority=320, reloads_on_hangup=True))
    for alias in ("promotions", *(f"shard_{shard}" for shard in range(SHARD_COUNT))):
        relay = (*_IN_BACKGROUND, *manage, "run_relay", "--alias", alias)
        programs.append(Program(f"relay-{alias.replace('_', '-')}", relay, priority=400))
    for number in range(_CONSUMER_COUNT):
        programs.append(Program(f"consumer-{number}", (*_IN_BACKGROUND, *manage, "run_consumers"), priority=400))
    programs.append(Program("webhooks", (*_IN_BACKGROUND, *manage, "send_webhooks"), priority=400))
    programs.append(
        Program(
            "celery-worker",
            (*_IN_BACKGROUND, *_celery(*_WORKER_OPTIONS, "--hostname", f"{instance.name}@%h")),
            stop_wait_s=40,
            priority=400,
        )
    )
    programs.append(
        Program(
            "celery-beat",
            _celery(*_BEAT_OPTIONS, "--schedule", str(instance.run_folder / "celery-beat-schedule")),
            priority=410,
        )
    )
    return programs


def _binds(instance: Instance, *ports: str) -> tuple[str, ...]:
    return tuple(word for port in ports for word in ("--bind", f"127.0.0.1:{instance.ports[port]}"))


def _celery(*options: str) -> tuple[str, ...]:
    return (str(VENV / "bin" / "celery"), "-A", "config", *options)


# -- configuration ------------------------------------------------------------------------------------------


def write_configuration(instance: Instance) -> bool:
    """Write supervisord.conf; return whether it differs from the one that was there."""
    path = _configuration_path(instance)
    text = _configuration(instance)
    if path.exists() and path.read_text() == text:
        return False
    path.touch(mode=0o600)
    path.write_text(text)
    return True


def _configuration(instance: Instance) -> str:
    # Each idle client of gunicorn is a file descriptor, and so is each partition that a database has open.
    descriptors = min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    sections = [
        f"""[supervisord]
logfile={_escaped(instance.log_folder / "supervisord.log")}
logfile_maxbytes=10MB
logfile_backups=2
loglevel=info
pidfile={_escaped(instance.run_folder / "supervisord.pid")}
minfds={descriptors}
directory={_escaped(ROOT)}
identifier=floodgate-{instance.name}

[unix_http_server]
file={_escaped(_socket_path(instance))}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    starter = ROOT / "deploy" / "local" / "run_program.sh"
    environment_file = instance.conf_folder / "environment.sh"
    for program in programs_of(instance):
        pid_file = instance.run_folder / f"{program.name}.pid"
        command = shlex.join(["/bin/sh", str(starter), str(environment_file), str(pid_file), *program.command])
        sections.append(
            f"""[program:{program.name}]
command={_escaped(command)}
priority={program.priority}
; Programs are started in steps (servers, migrations, the rest) by `make run`, not by the supervisor's own start.
autostart=false
; Whatever ends a program, it comes back at once and for ever: giving up would need a hand.
autorestart=true
startsecs=1
startretries=1000000
stopsignal=TERM
stopwaitsecs={program.stop_wait_s}
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(instance.log_folder / f"{program.name}.log")}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""
        )
    return "\n".join(sections)


def _escaped(text: Path | str) -> str:
    return str(text).replace("%", "%%")


def _configuration_path(instance: Instance) -> Path:
    return instance.conf_folder / "supervisord.conf"


def _socket_path(instance: Instance) -> Path:
    return instance.socket_folder / "supervisor.sock"


# -- speaking to it -----------------------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=180)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


class Supervisor:
    """The running supervisor of an instance, spoken to over its Unix socket."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        transport = _UnixTransport(_socket_path(instance))
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    def is_running(self) -> bool:
        """Whether it answers: a left-over socket file of a killed supervisor does not."""
        try:
            return bool(self._rpc.getState()["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def process_id(self) -> int:
        """The supervisor's own process id."""
        return int(self._rpc.getPID())

    def launch(self) -> None:
        """Start the supervisor in the background, with no program yet, and wait until it answers."""
        path = _socket_path(self._instance)
        path.unlink(missing_ok=True)
        command = [str(VENV / "bin" / "python"), "-m", "supervisor.supervisord"]
        command += ["-c", str(_configuration_path(self._instance))]
        result = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        deadline = time.monotonic() + 15
        while result.returncode == 0 and time.monotonic() < deadline:
            if self.is_running():
                return
            time.sleep(0.05)
        log = self._instance.log_folder / "supervisord.log"
        raise StackError(f"the supervisor did not start: {result.stderr.strip()}\n{tail(log)}")

    def reload(self) -> None:
        """Take up a changed configuration: programs that it changes are stopped and defined anew."""
        added, changed, removed = self._rpc.reloadConfig()[0]
        for name in (*changed, *removed):
            self._rpc.stopProcessGroup(name)
            self._rpc.removeProcessGroup(name)
        for name in (*added, *changed):
            self._rpc.addProcessGroup(name)

    def states(self) -> dict[str, ProcessState]:
        """The state of every program by its name, in the order of the configuration."""
        return {
            row["name"]: ProcessState(
                row["name"], row["statename"], row["pid"], row["now"] - row["start"], row["description"]
            )
            for row in self._rpc.getAllProcessInfo()
        }

    def start(self, name: str) -> None:
        """Ask for a start without waiting; a program that already runs or starts is left alone."""
        with _tolerating("ALREADY_STARTED"):
            self._rpc.startProcess(name, False)

    def wait_until_running(self, names: list[str], *, timeout_s: float) -> None:
        """Wait until all of the programs run; raises StackError naming one that does not within the time."""
        deadline = time.monotonic() + timeout_s
        for name in names:
            while (state := self.states()[name]).state != "RUNNING":
                if time.monotonic() > deadline:
                    raise StackError(f"{name} does not stay up ({state.state}: {state.description})")
                time.sleep(0.05)

    def stop(self, name: str, *, wait: bool = True) -> None:
        """Stop a program; one that does not run is left alone."""
        with _tolerating("NOT_RUNNING"):
            self._rpc.stopProcess(name, wait)

    def stop_all(self, programs: list[Program]) -> None:
        """Stop programs at the same time and wait for them; the supervisor itself kills one that takes too long."""
        names = {program.name for program in programs} & self.states().keys()
        for name in names:
            # A process that a fault test has stopped would not hear that it shall end.
            self.signal(name, "CONT")
            self.stop(name, wait=False)
        while any(state.name in names and state.process_id for state in self.states().values()):
            time.sleep(0.05)

    def signal(self, name: str, signal_name: str) -> None:
        """Send a signal to a program; one that does not run is left alone."""
        with _tolerating("NOT_RUNNING"):
            self._rpc.signalProcess(name, signal_name)

    def shut_down(self) -> None:
        """End the supervisor; it stops all its programs first."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._rpc.shutdown()


@contextlib.contextmanager
def _tolerating(fault: str) -> Iterator[None]:
    try:
        yield
    except xmlrpc.client.Fault as error:
        if not error.faultString.startswith(fault):
            raise StackError(f"the supervisor refused: {error.faultString}") from error
