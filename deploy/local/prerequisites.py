"""What must be installed before the stack can start: Debian packages, and the virtual environment from its locks."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.instance import ROOT, SYSTEM_PATH

VENV = ROOT / ".venv"
LOCKS = (ROOT / "requirements" / "base.txt", ROOT / "requirements" / "dev.txt")

_POLICY = Path("/usr/sbin/policy-rc.d")

# Packages that start a system-wide service of their own when they are installed on a machine with systemd.
_PACKAGES_WITH_SERVICE = {"redis-server": "redis-server.service", "nginx": "nginx.service"}


def missing_packages(*, with_mysql: bool = False) -> list[str]:
    """The Debian packages that the stack needs and this machine lacks, found without asking the package manager."""
    programs = {
        "mariadbd": "mariadb-server-core",
        "mariadb-install-db": "mariadb-server-core",
        # mariadb-install-db runs it.
        "my_print_defaults": "mariadb-client-core",
        "redis-server": "redis-server",
        "pkg-config": "pkg-config",
        "gcc": "gcc",
        "wrk": "wrk",
    }
    if with_mysql:
        programs["debootstrap"] = "debootstrap"
    missing = {package for program, package in programs.items() if find_program(program) is None}
    include_folder = Path(sysconfig.get_paths()["include"])
    if not (include_folder / "Python.h").exists():
        missing.add("python3-dev")
    if importlib.util.find_spec("ensurepip") is None:
        missing.add("python3-venv")
    if not _has_mariadb_headers():
        missing.add("libmariadb-dev")
    if "gcc" in missing:
        missing.add("libc6-dev")
    return sorted(missing)


def missing_front_packages() -> list[str]:
    """The packages that the stack would rather have and does without: nginx, in front of gunicorn."""
    return [] if find_program("nginx") else ["nginx"]


def install_packages(packages: list[str], *, log: Path) -> None:
    """Install Debian packages without letting any of them start a service.

    Raises StackError with the list of what to install when this user may not, or when apt-get fails.
    """
    if not packages:
        return
    advice = f"install these packages and run the command again: {' '.join(packages)}"
    if find_program("apt-get") is None:
        raise StackError(f"this machine has no apt-get (names are Debian's); {advice}")
    prefix = root_prefix()
    if prefix is None:
        raise StackError(f"only root may install packages here; {advice}\n  sudo apt-get install {' '.join(packages)}")
    print(f"installing {' '.join(packages)}", flush=True)
    apt_get = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    apt_get += ["-o", "DPkg::Lock::Timeout=300"]
    with _no_service_starts(prefix):
        # The lists may be old or absent; a failed update of a foreign source need not prevent the installation.
        run_logged([*apt_get, "update"], log=log, reason=None)
        run_logged(
            [*apt_get, "install", "--no-install-recommends", *packages],
            log=log,
            reason=f"apt-get could not install {' '.join(packages)}",
        )
    if Path("/run/systemd/system").exists():
        for service in (_PACKAGES_WITH_SERVICE[p] for p in packages if p in _PACKAGES_WITH_SERVICE):
            run_logged([*prefix, "systemctl", "disable", service], log=log, reason=None)


def make_venv(*, log: Path) -> None:
    """Bring ``.venv`` in line with the locks; quick when the stamp says that it is already."""
    digest = hashlib.sha256(sys.version.encode())
    for lock in LOCKS:
        if not lock.exists():
            raise StackError(f"{lock.relative_to(ROOT)} is missing")
        digest.update(lock.read_bytes())
    stamp = VENV / "floodgate-lock.sha256"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    print("making the virtual environment", flush=True)
    if not (VENV / "bin" / "python").exists():
        run_logged(
            [sys.executable, "-m", "venv", str(VENV)], log=log, reason="the virtual environment could not be made"
        )
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    for lock in LOCKS:
        command += ["-r", str(lock)]
    run_logged(command, log=log, reason="the Python packages could not be installed")
    stamp.write_text(digest.hexdigest())


def find_program(name: str) -> str | None:
    """Where a program lies, looked for in the administrator's folders too."""
    return shutil.which(name, path=SYSTEM_PATH)


def root_prefix() -> list[str] | None:
    """What to put in front of a command to run it as root: nothing, a sudo that asks nothing, or None if neither."""
    if os.geteuid() == 0:
        return []
    sudo = find_program("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def run_logged(command: list[str], *, log: Path, reason: str | None) -> None:
    """Run a command with its output in a log; on failure raise StackError with the reason and the log's tail.

    ``reason=None`` means that a failure may be ignored.
    """
    with log.open("ab") as output:
        output.write(f"\n== {' '.join(command)}\n".encode())
        output.flush()
        result = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if result.returncode != 0 and reason is not None:
        raise StackError(f"{reason} (exit {result.returncode}); the end of {log}:\n{tail(log)}")


def tail(path: Path, *, line_count: int = 15) -> str:
    """The last lines of a log, indented; empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-line_count:])


def _has_mariadb_headers() -> bool:
    pkg_config = find_program("pkg-config")
    if pkg_config is None:
        return any(Path(folder, "mariadb", "mysql.h").exists() for folder in ("/usr/include", "/usr/local/include"))
    checks = (subprocess.run([pkg_config, "--exists", name], check=False) for name in ("libmariadb", "mysqlclient"))
    return any(check.returncode == 0 for check in checks)


@contextlib.contextmanager
def _no_service_starts(prefix: list[str]) -> Iterator[None]:
    """Tell Debian's package scripts to start nothing; a policy that the machine already has stays as it is."""
    if _POLICY.exists():
        yield
        return
    write_policy = f"printf '#!/bin/sh\\nexit 101\\n' > {_POLICY} && chmod 755 {_POLICY}"
    subprocess.run([*prefix, "sh", "-c", write_policy], check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "rm", "-f", str(_POLICY)], check=True)
