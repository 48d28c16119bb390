"""One instance of the stack: its name, ports, folders, secrets, and the environment that its processes read."""

import base64
import hashlib
import json
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"
"""Where programs are looked for: in the administrator's folders too."""

PORT_OFFSETS = {
    "public": 0,
    "internal": 1,
    "staff": 2,
    "sandbox": 3,
    "db-global": 306,
    "db-shard-0": 307,
    "db-shard-1": 308,
    "redis-durable": 379,
    "redis-cache": 380,
}
"""Each listening part and its distance from the instance's port base."""

DEFAULT_PORT_BASES = {"local": 8000, "local-mysql": 8000, "test": 18000, "test-mysql": 28000}

GLOBAL_SCHEMAS = ("default", "users", "catalog", "inventory", "promotions")
SHARD_COUNT = 2

# A Unix socket's path is limited to 108 bytes by the kernel; the longest name below it is "supervisor.sock.NNNNN".
_LONGEST_SOCKET_FOLDER = 80

# A file system in memory. In some containers it is too small to be used: a process that writes to a mapped file when
# it is full dies.
_MEMORY = Path("/dev/shm")
_LEAST_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Server:
    """A database or Redis server of the instance: ``program`` is its name under the supervisor."""

    program: str
    port_name: str
    schemas: tuple[str, ...] = ()
    server_id: int = 0


@dataclass(frozen=True)
class Instance:
    """An instance of the stack; everything else is derived from these few values."""

    name: str
    db: str
    ports: Mapping[str, int]
    profile: str

    @property
    def folder(self) -> Path:
        """All that the instance keeps; deleting it deletes the instance."""
        return ROOT / "var" / self.name

    @property
    def log_folder(self) -> Path:
        """A log for each program, and those of setting up."""
        return self.folder / "log"

    @property
    def run_folder(self) -> Path:
        """What belongs to one run: process ids, sockets."""
        return self.folder / "run"

    @property
    def data_folder(self) -> Path:
        """The servers' data."""
        return self.folder / "data"

    @property
    def conf_folder(self) -> Path:
        """Generated configuration."""
        return self.folder / "conf"

    @property
    def metrics_folder(self) -> Path:
        """Where every process writes its metrics, to be added up at each scrape: in memory, where that can be had.

        On a disk that is busy with durable commits, counting would wait for it now and then.
        """
        if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).total >= _LEAST_MEMORY_BYTES:
            return _short_path(_MEMORY, self.folder)
        return self.folder / "prometheus"

    @property
    def socket_folder(self) -> Path:
        """Where Unix sockets live: ``run``, or a short path in the temporary folder when ``run`` is too deep."""
        if len(os.fsencode(self.run_folder)) <= _LONGEST_SOCKET_FOLDER:
            return self.run_folder
        return _short_path(Path(tempfile.gettempdir()), self.run_folder)

    @property
    def is_test(self) -> bool:
        """Whether the instance is there for tests to use, not to be tested itself."""
        return self.profile == "test"

    @property
    def is_small(self) -> bool:
        """Whether the servers are kept small: all instances but the one that a person runs."""
        return not self.name.startswith("local")

    @property
    def database_servers(self) -> tuple[Server, ...]:
        """The database servers with the schemas that each holds, the global one first."""
        prefix = self.schema_prefix
        servers = [Server(f"{self.db}-global", "db-global", tuple(f"{prefix}_{s}" for s in GLOBAL_SCHEMAS), 1)]
        for shard in range(SHARD_COUNT):
            schemas = (f"{prefix}_shard_{shard}",)
            servers.append(Server(f"{self.db}-shard-{shard}", f"db-shard-{shard}", schemas, shard + 2))
        return tuple(servers)

    @property
    def redis_servers(self) -> tuple[Server, ...]:
        """The Redis that must keep what it is given, and the one that may forget."""
        return (Server("redis-durable", "redis-durable"), Server("redis-cache", "redis-cache"))

    @property
    def nginx(self) -> str | None:
        """Where nginx lies; None where there is none, and gunicorn answers on the public port itself."""
        return shutil.which("nginx", path=SYSTEM_PATH)

    @property
    def port_variable(self) -> str:
        """The beginning of the environment variables that choose the instance's ports."""
        return port_variable_of(self.name)

    @property
    def schema_prefix(self) -> str:
        """What the names of all schemas begin with."""
        return "floodgate"

    def make_folders(self) -> None:
        """Make the instance's folders; nobody but their owner may look into them."""
        (ROOT / "var").mkdir(exist_ok=True)
        for folder in (self.folder, self.log_folder, self.run_folder, self.data_folder, self.conf_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.metrics_folder, self.socket_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                raise StackError(f"{folder} belongs to somebody else; nothing can be put there")

    def forget_metrics(self) -> None:
        """Delete what processes that are gone have counted."""
        for path in self.metrics_folder.glob("*.db"):
            path.unlink()

    def delete(self) -> None:
        """Delete all that the instance keeps, wherever it lies."""
        for folder in (self.metrics_folder, self.socket_folder, self.folder):
            shutil.rmtree(folder, ignore_errors=True)

    # -- what is remembered between calls -------------------------------------------------------------------

    def save(self) -> None:
        """Remember the instance's ports and kind, so that later commands need only its name."""
        self.make_folders()
        remembered = {"db": self.db, "profile": self.profile, "ports": dict(self.ports)}
        _write_private(self.folder / "instance.json", json.dumps(remembered, indent=2) + "\n")

    def require_same_ports(self) -> None:
        """Raise StackError if the instance was started on other ports than these: a running one cannot be moved."""
        path = self.folder / "instance.json"
        ports = json.loads(path.read_text())["ports"] if path.exists() else dict(self.ports)
        if ports != dict(self.ports):
            raise StackError(f"{self.name} runs on other ports ({ports['public']} and so on); stop it there first")

    def secrets(self) -> dict[str, str]:
        """The instance's secrets, generated at first use into a file that only the owner can read."""
        path = self.folder / "secrets.env"
        if not path.exists():
            self.make_folders()
            lines = (f"{key}={value}\n" for key, value in _new_secrets().items())
            _write_private(path, "".join(lines))
        pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
        return {key: value for key, _, value in pairs}

    # -- the environment of the instance's processes --------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """All settings of this instance, as its processes and commands read them.

        Further ``FLOODGATE_*`` settings that the caller's shell carries are passed on; those that the instance
        decides itself (addresses, secrets) always win.
        """
        return self._remembered_settings() | _settings_of_caller() | self.secrets() | self._addresses()

    def remember_settings(self) -> None:
        """Keep the extra ``FLOODGATE_*`` settings of this start for later commands on the same instance."""
        own = self.secrets() | self._addresses()
        extra = {key: value for key, value in _settings_of_caller().items() if key not in own}
        _write_private(self.folder / "settings.json", json.dumps(extra, indent=2) + "\n")

    def write_environment_file(self) -> Path:
        """Write the environment as a shell script that each supervised program reads when it starts."""
        path = self.conf_folder / "environment.sh"
        _write_private(path, "".join(f"{line}\n" for line in self.export_lines()))
        return path

    def export_lines(self) -> list[str]:
        """The environment as lines for a shell."""
        return [f"export {key}={shlex.quote(value)}" for key, value in sorted(self.environment().items())]

    def _remembered_settings(self) -> dict[str, str]:
        path = self.folder / "settings.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _addresses(self) -> dict[str, str]:
        password = self.secrets()["FLOODGATE_DB_PASSWORD"]
        database_urls = [
            f"mysql://floodgate:{password}@127.0.0.1:{self.ports[s.port_name]}" for s in self.database_servers
        ]
        return {
            "FLOODGATE_PROFILE": self.profile,
            "FLOODGATE_INSTANCE": self.name,
            "FLOODGATE_VAR_DIR": str(self.folder),
            "FLOODGATE_DB_KIND": self.db,
            "FLOODGATE_DB_PREFIX": self.schema_prefix,
            "FLOODGATE_DB_GLOBAL_URL": database_urls[0],
            "FLOODGATE_DB_SHARD_URLS": ",".join(database_urls[1:]),
            "FLOODGATE_REDIS_DURABLE_URL": f"redis://127.0.0.1:{self.ports['redis-durable']}/0",
            "FLOODGATE_REDIS_CACHE_URL": f"redis://127.0.0.1:{self.ports['redis-cache']}/0",
            "FLOODGATE_PUBLIC_URL": f"http://127.0.0.1:{self.ports['public']}",
            "FLOODGATE_INTERNAL_URL": f"http://127.0.0.1:{self.ports['internal']}",
            "FLOODGATE_STAFF_URL": f"http://127.0.0.1:{self.ports['staff']}",
            "FLOODGATE_SANDBOX_URL": f"http://127.0.0.1:{self.ports['sandbox']}",
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics_folder),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }


def load_instance(name: str, *, port_base: int | None = None, db: str | None = None) -> Instance:
    """The instance of that name: as asked, else as the environment says, else as remembered, else by default.

    Raises StackError for a name that cannot be a folder, and for a new name without a port base.
    """
    if not name.replace("-", "").replace("_", "").isalnum() or name in {"mysql-root", "cache"}:
        raise StackError(f"{name!r} cannot be an instance's name: use letters, digits and dashes")
    path = ROOT / "var" / name / "instance.json"
    remembered = json.loads(path.read_text()) if path.exists() else {}
    db = db or remembered.get("db") or ("mysql" if name.endswith("-mysql") else "mariadb")
    if remembered and remembered["db"] != db:
        raise StackError(f"the instance {name} runs on {remembered['db']}; use another name for {db}")
    variable = port_variable_of(name)
    asked_base = port_base or _port_from_environment(f"{variable}_BASE")
    if asked_base is not None:
        ports = {part: asked_base + offset for part, offset in PORT_OFFSETS.items()}
    elif "ports" in remembered:
        ports = {part: remembered["ports"][part] for part in PORT_OFFSETS}
    elif name in DEFAULT_PORT_BASES:
        ports = {part: DEFAULT_PORT_BASES[name] + offset for part, offset in PORT_OFFSETS.items()}
    else:
        raise StackError(f"the instance {name} is new: say --port-base N (it takes N to N+3 and N+306 to N+380)")
    for part in PORT_OFFSETS:
        ports[part] = _port_from_environment(f"{variable}_{part.upper().replace('-', '_')}") or ports[part]
    doubled = {port for port in ports.values() if list(ports.values()).count(port) > 1}
    if doubled:
        raise StackError(f"two parts were given the same port: {sorted(doubled)}")
    return Instance(name=name, db=db, ports=ports, profile="test" if _is_test(name) else "local")


def port_variable_of(name: str) -> str:
    """Tests run beside the stack, so their ports have variables of their own."""
    return "FLOODGATE_TEST_PORT" if _is_test(name) else "FLOODGATE_PORT"


def _short_path(parent: Path, folder: Path) -> Path:
    """A path for what belongs to a folder and lies elsewhere, one for each user and folder."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return parent / f"floodgate-{os.getuid()}-{digest}"


def _is_test(name: str) -> bool:
    return name.startswith("test")


def _settings_of_caller() -> dict[str, str]:
    """The ``FLOODGATE_*`` settings in the caller's shell, but for those that choose ports of instances."""
    return {
        key: value
        for key, value in os.environ.items()
        if key.startswith("FLOODGATE_") and not key.startswith(("FLOODGATE_PORT_", "FLOODGATE_TEST_PORT_"))
    }


def _port_from_environment(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    if not value:
        return None
    if not value.isdigit() or not 1024 <= int(value) <= 65535:
        raise StackError(f"{variable}={value} is not a port number from 1024 to 65535")
    return int(value)


def _new_secrets() -> dict[str, str]:
    return {
        "FLOODGATE_SECRET_KEY": secrets.token_urlsafe(48),
        "FLOODGATE_DATA_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "FLOODGATE_INDEX_KEYS": f"1:{secrets.token_hex(32)}",
        "FLOODGATE_JWT_KEYS": f"k1:{secrets.token_hex(32)}",
        "FLOODGATE_REFRESH_KEY": secrets.token_hex(32),
        "FLOODGATE_SANDBOX_SECRET": secrets.token_hex(32),
        "FLOODGATE_DB_PASSWORD": secrets.token_hex(16),
    }


def _write_private(path: Path, text: str) -> None:
    """Write a file of mode 600 in one step: a reader sees the old text or the new one."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
