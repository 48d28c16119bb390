"""The commands of the one-machine stack; the Makefile calls them."""

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local import application, mysql_root, nginx, prerequisites, processes, servers, supervision
from deploy.local.errors import StackError
from deploy.local.instance import ROOT, Instance, load_instance

_SERVERS_TIMEOUT_S = 90
_PYTEST = [str(prerequisites.VENV / "bin" / "python"), "-m", "pytest"]
_END_TO_END = "tests/e2e"


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0 when it did what was asked."""
    options = _parser().parse_args(arguments)
    try:
        instance = load_instance(options.instance, port_base=options.port_base, db=options.db)
        return int(options.run(instance, options) or 0)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stack.py", description=__doc__)
    parser.add_argument("--instance", default="local", help="name of the instance (default: local)")
    parser.add_argument("--port-base", type=int, help="first port of a new instance; remembered")
    parser.add_argument("--db", choices=("mariadb", "mysql"), help="kind of database of a new instance; remembered")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    setup = commands.add_parser("setup", help="install what is missing")
    setup.set_defaults(run=_setup)
    up = commands.add_parser("up", help="start everything and wait until it is ready")
    up.add_argument("--only", choices=("servers",), help="start only the databases and Redis")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="stop everything").set_defaults(run=_down)
    commands.add_parser("status", help="a line a process").set_defaults(run=_status)
    logs = commands.add_parser("logs", help="the end of the logs")
    logs.add_argument("name", nargs="?", help="one program, or `setup`")
    logs.add_argument("--follow", action="store_true", help="go on showing what is added")
    logs.set_defaults(run=_logs)
    commands.add_parser("reset", help="stop and delete the data").set_defaults(run=_reset)
    commands.add_parser("env", help="print the environment as export lines").set_defaults(run=_env)
    manage = commands.add_parser("manage", help="run a management command given as one string or as words")
    manage.add_argument("words", nargs=argparse.REMAINDER)
    manage.set_defaults(run=_manage)
    execute = commands.add_parser("exec", help="run a command with the instance's environment: exec -- COMMAND")
    execute.add_argument("words", nargs=argparse.REMAINDER)
    execute.set_defaults(run=_exec)
    test = commands.add_parser("test", help="run pytest on the instance's servers: test [--keep] -- ARGUMENTS")
    test.add_argument("--keep", action="store_true", help="leave the servers up afterwards")
    test.add_argument("words", nargs=argparse.REMAINDER)
    test.set_defaults(run=_test)
    return parser


# -- commands -----------------------------------------------------------------------------------------------


def _setup(instance: Instance, options: argparse.Namespace) -> None:
    """Install what is missing: packages, the virtual environment, and MySQL where it is asked for."""
    instance.make_folders()
    log = instance.log_folder / "setup.log"
    with_mysql = instance.db == "mysql"
    with _locked("setup"):
        prerequisites.install_packages(prerequisites.missing_packages(with_mysql=with_mysql), log=log)
        _install_front(log)
        prerequisites.make_venv(log=log)
        if with_mysql:
            mysql_root.make(log=log)


def _up(instance: Instance, options: argparse.Namespace) -> None:
    """Start the instance, or what is missing of it."""
    _setup(instance, options)
    with _locked(f"{instance.name}"):
        only_servers = options.only == "servers"
        supervisor = _start_supervisor(instance, only_servers=only_servers)
        _start_servers(instance, supervisor)
        if not only_servers:
            application.start(instance, supervisor)


def _down(instance: Instance, options: argparse.Namespace) -> None:
    """Stop everything, whatever a killed supervisor left behind included."""
    with _locked(f"{instance.name}"):
        _stop(instance)


def _status(instance: Instance, options: argparse.Namespace) -> int:
    """Print a line a process; non-zero only when there is no supervisor to ask.

    Scripts read this: a running process's line begins ``name RUNNING pid N``, no other line has the word "pid".
    """
    supervisor = supervision.Supervisor(instance)
    if not supervisor.is_running():
        print(f"the instance {instance.name} does not run: `make run` starts it")
        for name, process_id in processes.left_over(instance).items():
            print(f"{name} LEFT-OVER process {process_id}, which the next start or stop will end")
        return 1
    for state in supervisor.states().values():
        if state.state == "RUNNING":
            print(f"{state.name} RUNNING pid {state.process_id}, uptime {_duration(state.uptime_s)}")
        else:
            print(f"{state.name} {state.state} {state.description.replace('pid', 'process')}".rstrip())
    return 0


def _logs(instance: Instance, options: argparse.Namespace) -> int:
    """Print the end of one program's log, or of all."""
    pattern = f"{options.name or '*'}.log"
    paths = sorted(str(path.relative_to(ROOT)) for path in instance.log_folder.glob(pattern))
    if not paths:
        raise StackError(f"there is no log {pattern} in {instance.log_folder.relative_to(ROOT)}")
    command = ["tail", "-n", "200" if options.name else "20", *(["-F"] if options.follow else []), *paths]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _reset(instance: Instance, options: argparse.Namespace) -> None:
    """Stop everything and delete all that the instance holds."""
    with _locked(f"{instance.name}"):
        _stop(instance)
        instance.delete()


def _env(instance: Instance, options: argparse.Namespace) -> None:
    """Print the environment for a shell: ``eval "$(stack.py --instance NAME env)"``."""
    print("\n".join(instance.export_lines()))


def _manage(instance: Instance, options: argparse.Namespace) -> int:
    """Run a management command with its output passed on; the exit code is the command's."""
    words = shlex.split(options.words[0]) if len(options.words) == 1 else options.words
    return _run([str(prerequisites.VENV / "bin" / "python"), "manage.py", *words], instance)


def _exec(instance: Instance, options: argparse.Namespace) -> int:
    """Run any command with the instance's environment."""
    words = _after_dashes(options.words)
    if not words:
        raise StackError("say which command: exec -- COMMAND")
    return _run(words, instance)


def _test(instance: Instance, options: argparse.Namespace) -> int:
    """Run pytest on servers of its own, which are stopped afterwards; the exit code is pytest's.

    All tests are two runs side by side: the end-to-end tests have a stack of their own, and mostly wait for it.
    """
    with _locked(f"{instance.name}-session", reason=f"tests already run on the instance {instance.name}"):
        options.only = "servers"
        _up(instance, options)
        try:
            words = _after_dashes(options.words)
            return _run([*_PYTEST, *words], instance) if words else _test_side_by_side(instance)
        finally:
            if not options.keep:
                _down(instance, options)


# -- steps --------------------------------------------------------------------------------------------------


def _install_front(log: Path) -> None:
    """Install nginx where it can be had; the stack runs without it too."""
    try:
        prerequisites.install_packages(prerequisites.missing_front_packages(), log=log)
    except StackError as error:
        print(f"nginx cannot be had here, so gunicorn will answer on the public port itself: {error}", flush=True)


def _start_supervisor(instance: Instance, *, only_servers: bool) -> supervision.Supervisor:
    supervisor = supervision.Supervisor(instance)
    was_running = supervisor.is_running()
    if was_running:
        instance.require_same_ports()
    else:
        _end_left_over(instance)
        instance.forget_metrics()
    _require_free_ports(instance, supervisor if was_running else None, only_servers=only_servers)
    instance.save()
    servers.configure(instance)
    nginx.configure(instance)
    instance.remember_settings()
    instance.write_environment_file()
    changed = supervision.write_configuration(instance)
    if not was_running:
        supervisor.launch()
    elif changed:
        supervisor.reload()
    return supervisor


def _start_servers(instance: Instance, supervisor: supervision.Supervisor) -> None:
    all_servers = [*instance.database_servers, *instance.redis_servers]
    for server in all_servers:
        supervisor.start(server.program)
    dumb = servers.wait_until_answering(instance, all_servers, timeout_s=_SERVERS_TIMEOUT_S)
    if dumb is not None:
        log = instance.log_folder / f"{dumb.program}.log"
        raise StackError(
            f"{dumb.program} does not answer after {_SERVERS_TIMEOUT_S} s; the end of {log}:\n{prerequisites.tail(log)}"
        )
    # A server counts as running for the supervisor, and so for `status`, once it has stayed up for a second.
    supervisor.wait_until_running([server.program for server in all_servers], timeout_s=10)


def _stop(instance: Instance) -> None:
    supervisor = supervision.Supervisor(instance)
    if supervisor.is_running():
        process_id = supervisor.process_id()
        programs = supervision.programs_of(instance)
        supervisor.stop_all([program for program in programs if not program.is_server])
        supervisor.stop_all([program for program in programs if program.is_server])
        supervisor.shut_down()
        processes.wait_for_end(process_id, timeout_s=30)
    _end_left_over(instance)
    instance.forget_metrics()


def _test_side_by_side(instance: Instance) -> int:
    """Run the end-to-end tests beside all others, whose output comes first; the exit code is that of a run that failed.

    What the end-to-end tests say is kept meanwhile and then follows as a whole.
    """
    said = instance.log_folder / "tests-e2e.log"
    with said.open("wb") as output:
        environment = os.environ | instance.environment()
        command = [*_PYTEST, _END_TO_END]
        beside = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        status = _run([*_PYTEST, f"--ignore={_END_TO_END}"], instance)
    finally:
        print(f"{_END_TO_END}, which ran beside these:", flush=True)
        beside.wait()  # interrupted or not, it stops its stack
        print(said.read_text(errors="replace"), end="", flush=True)
    return status or beside.returncode


def _end_left_over(instance: Instance) -> None:
    found = processes.left_over(instance)
    if found:
        names = ", ".join(f"{name} (process {process_id})" for name, process_id in found.items())
        print(f"ending what an earlier supervisor left behind: {names}", flush=True)
        processes.end(list(found.values()), timeout_s=60)
    nginx.end_orphans(instance.folder)


def _require_free_ports(instance: Instance, supervisor: supervision.Supervisor | None, *, only_servers: bool) -> None:
    """Raise StackError with every port that somebody else holds, before anything is started."""
    states = supervisor.states() if supervisor else {}
    own = {name for name, state in states.items() if state.state not in {"STOPPED", "FATAL"}}
    taken = [
        f"port {instance.ports[port]}, which {program.name} needs, is taken by "
        f"{processes.holder_of_port(instance.ports[port])}"
        for program in supervision.programs_of(instance)
        for port in program.ports
        if program.name not in own and (program.is_server or not only_servers)
        if not processes.port_is_free(instance.ports[port])
    ]
    if taken:
        variable = f"{instance.port_variable}_BASE"
        advice = f"end that, or choose other ports: {variable}=N takes N to N+3 and N+306 to N+380"
        raise StackError("\n".join([*taken, advice]))


def _run(command: list[str], instance: Instance) -> int:
    # What lies in memory is gone after the machine was started anew.
    instance.make_folders()
    return subprocess.run(command, cwd=ROOT, env=os.environ | instance.environment(), check=False).returncode


def _after_dashes(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


@contextmanager
def _locked(name: str, *, reason: str = "") -> Iterator[None]:
    """Let one command at a time change an instance (or the installation).

    Others wait for it, or, when a reason is given, are refused with it.
    """
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    with (folder / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if reason else 0))
        except BlockingIOError:
            raise StackError(reason) from None
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
