"""A real Oracle MySQL without containers: Debian's unstable suite in a root folder of its own.

Debian's stable suites carry MariaDB only. The unstable one has MySQL's server; debootstrap puts it with all that it
needs into ``var/mysql-root``, apart from this machine's own packages. It is run from there through its own dynamic
loader, without chroot: so it needs no root and reads and writes the instance's folders like every other server.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.instance import ROOT
from deploy.local.prerequisites import find_program, root_prefix, run_logged

MYSQL_ROOT = ROOT / "var" / "mysql-root"
_SUITE = "sid"
_STAMP = MYSQL_ROOT / "floodgate-complete"
_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def make(*, log: Path) -> None:
    """Build the root folder unless it is there. Raises StackError with the reason where it cannot be had."""
    if _STAMP.exists():
        return
    prefix = root_prefix()
    if prefix is None:
        raise StackError("DB=mysql needs root once, for debootstrap: run `sudo make setup DB=mysql`, or use MariaDB")
    mirror = _debian_mirror()
    print("fetching MySQL", flush=True)
    part = MYSQL_ROOT.with_name(f"{MYSQL_ROOT.name}.part")
    for leftover in (part, MYSQL_ROOT):
        _remove(leftover, prefix)
    part.parent.mkdir(exist_ok=True)
    command = [find_program("debootstrap") or "debootstrap", "--variant=minbase", "--include=mysql-server-core"]
    if _DEBIAN_KEYRING.exists():
        command.append(f"--keyring={_DEBIAN_KEYRING}")
    # debootstrap fetches by itself, so it must be told of the proxy that apt is set up with.
    command = [*prefix, "env", *_proxy_settings(), *command, _SUITE, str(part), mirror]
    run_logged(command, log=log, reason="DB=mysql cannot be had here: debootstrap failed")
    _require_nothing_mounted(part)
    shutil.rmtree(part / "var" / "cache" / "apt", ignore_errors=True)
    if prefix:
        run_logged([*prefix, "chown", "-R", f"{os.getuid()}:{os.getgid()}", str(part)], log=log, reason=None)
    (part / _STAMP.name).touch()
    part.rename(MYSQL_ROOT)


def mysqld_command() -> list[str]:
    """The beginning of a command that runs mysqld: its own loader, its own libraries, itself."""
    loaders = sorted((MYSQL_ROOT / "usr" / "lib").glob("*-linux-gnu*/ld-linux*.so.*"))
    if not loaders:
        raise StackError(f"{MYSQL_ROOT} holds no dynamic loader; delete that folder and run `make setup DB=mysql`")
    loader = loaders[0]
    return [str(loader), "--library-path", str(loader.parent), str(MYSQL_ROOT / "usr" / "sbin" / "mysqld")]


def options() -> dict[str, str]:
    """Where the server finds its own files."""
    base = MYSQL_ROOT / "usr"
    return {
        "basedir": str(base),
        "lc-messages-dir": str(base / "share" / "mysql"),
        "character-sets-dir": str(base / "share" / "mysql" / "charsets"),
        "plugin-dir": str(base / "lib" / "mysql" / "plugin"),
        "secure-file-priv": "NULL",
    }


def _debian_mirror() -> str:
    """The Debian archive that this machine's apt is set up with."""
    apt_get = find_program("apt-get")
    reason = "DB=mysql cannot be had here: it comes from a Debian archive"
    if apt_get is None:
        raise StackError(f"{reason}, and this machine has no apt")
    listing = subprocess.run(
        [apt_get, "indextargets", "Created-By: Packages"], capture_output=True, text=True, check=False
    ).stdout
    for target in listing.split("\n\n"):
        fields: dict[str, str] = dict(re.findall(r"^([\w-]+): (.*)$", target, re.MULTILINE))
        if fields.get("Origin") == "Debian" and fields.get("Label") == "Debian" and fields.get("Component") == "main":
            return fields["Repo-URI"]
    raise StackError(f"{reason}, and apt is set up with none here (or `apt-get update` never ran)")


def _proxy_settings() -> list[str]:
    found = []
    for scheme in ("http", "https"):
        if os.environ.get(f"{scheme}_proxy"):
            found.append(f"{scheme}_proxy={os.environ[f'{scheme}_proxy']}")
            continue
        asked = ["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        if (match := re.search(r"PROXY='([^']+)'", answer)) and match[1] != "DIRECT":
            found.append(f"{scheme}_proxy={match[1]}")
    return found


def _remove(folder: Path, prefix: list[str]) -> None:
    if folder.exists():
        _require_nothing_mounted(folder)
        subprocess.run([*prefix, "rm", "-rf", "--one-file-system", str(folder)], check=True)


def _require_nothing_mounted(folder: Path) -> None:
    """Raise StackError if debootstrap left something mounted in the folder: deleting would reach into it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [mount for mount in mounts if mount.startswith(f"{folder}/")]
    if inside:
        raise StackError(f"still mounted, unmount them first: {' '.join(inside)}")
