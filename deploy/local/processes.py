"""Processes of this machine as the kernel shows them: who holds a port, and what a killed supervisor left behind."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.instance import Instance


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder_of_port(port: int) -> str:
    """Which process listens on a TCP port, for a message: ``"process 123 (nginx)"``, or that it cannot be known."""
    inodes = {inode for table in ("/proc/net/tcp", "/proc/net/tcp6") for inode in _listening_inodes(Path(table), port)}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(link) in sockets for link in (folder / "fd").iterdir()):
                return f"process {folder.name} ({(folder / 'comm').read_text().strip()})"
    return "a process that this user cannot see"


def left_over(instance: Instance) -> dict[str, int]:
    """Programs of the instance that still run although no supervisor watches them: name -> process id.

    Found by their pid files; a process counts only if its environment or command line names the instance's folder,
    so that a number that the kernel has given to somebody else is never taken for ours.
    """
    found = {}
    for path in sorted(instance.run_folder.glob("*.pid")):
        with contextlib.suppress(ValueError, OSError):
            process_id = int(path.read_text())
            if _belongs_to(process_id, instance):
                found[path.stem] = process_id
    return found


def end(process_ids: list[int], *, timeout_s: float) -> None:
    """End processes: asked first, killed with their process groups when they do not go within the time."""
    for process_id in process_ids:
        _send(process_id, signal.SIGCONT)
        _send(process_id, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while any(is_alive(process_id) for process_id in process_ids):
        if time.monotonic() > deadline:
            for process_id in process_ids:
                # Every program leads a group of its own (the supervisor sees to it), children included.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process_id, signal.SIGKILL)
            return
        time.sleep(0.05)


def wait_for_end(process_id: int, *, timeout_s: float) -> None:
    """Wait until a process is gone; raises StackError when it is still there after the time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process_id):
        if time.monotonic() > deadline:
            raise StackError(f"process {process_id} does not end")
        time.sleep(0.05)


def children_of(process_id: int) -> set[int]:
    """The processes that a process has started; none if it is gone."""
    try:
        return {int(child) for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()}
    except OSError:
        return set()


def is_alive(process_id: int) -> bool:
    """Whether the process runs; one that has ended and was not yet collected by its parent does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _belongs_to(process_id: int, instance: Instance) -> bool:
    if not is_alive(process_id):
        return False
    folder = Path(f"/proc/{process_id}")
    marks = (f"FLOODGATE_VAR_DIR={instance.folder}\0".encode(), f"{instance.folder}/".encode())
    return marks[0] in (folder / "environ").read_bytes() or marks[1] in (folder / "cmdline").read_bytes()


def _listening_inodes(table: Path, port: int) -> list[str]:
    rows = (line.split() for line in table.read_text().splitlines()[1:]) if table.exists() else ()
    listening = "0A"
    return [row[9] for row in rows if row[3] == listening and int(row[1].rpartition(":")[2], 16) == port]


def _send(process_id: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process_id, signal_number)
