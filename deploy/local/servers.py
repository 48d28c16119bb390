"""Configuration and first-time set-up of the instance's database and Redis servers, durable but for those of tests."""

import contextlib
import getpass
import os
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.local import mysql_root
from deploy.local.errors import StackError
from deploy.local.instance import Instance, Server

# The same strictness on both kinds of server, whatever their version's default is.
_SQL_MODE = (
    "STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)

_COMMON_OPTIONS = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_unicode_ci",
    "default-time-zone": "+00:00",
    "transaction-isolation": "READ-COMMITTED",
    "sql-mode": _SQL_MODE,
    "max-connections": "300",
    "max-allowed-packet": "64M",
    "local-infile": "OFF",
    # Durability: a commit is on disk, in the engine and in the binlog, before it is acknowledged.
    "innodb-flush-log-at-trx-commit": "1",
    "sync-binlog": "1",
    "innodb-doublewrite": "ON",
    "log-bin": "binlog",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "binlog-row-metadata": "FULL",
    "binlog-expire-logs-seconds": "86400",
    "max-binlog-size": "256M",
    # Waiting: a blocked writer fails before its request's deadline does.
    "innodb-lock-wait-timeout": "3",
    "lock-wait-timeout": "60",
    "innodb-autoinc-lock-mode": "2",
    # Each partition of each month is a file and a table to the server.
    "open-files-limit": "16384",
    "innodb-open-files": "6000",
    "table-definition-cache": "2000",
}

# The servers of the tests need not wait for the disk: what was handed to the kernel outlives every process, and no test
# cuts the power.
_TEST_OPTIONS = {
    "innodb-flush-log-at-trx-commit": "2",
    "sync-binlog": "0",
}

# Options that only one of the two knows, or knows by another name.
_MARIADB_OPTIONS = {
    "idle-transaction-timeout": "10",
    "log-warnings": "1",
    "performance-schema": "OFF",
}
_MYSQL_OPTIONS = {
    "mysqlx": "OFF",
    "log-error-verbosity": "2",
}


@dataclass(frozen=True)
class Sizes:
    """How much memory and disk a server may take."""

    buffer_pool: str
    redo_log: str
    table_cache: str
    cache_redis: str
    durable_redis: str


def sizes_of(instance: Instance) -> Sizes:
    """Sizes for a person's own stack, or small ones for tests; ``FLOODGATE_DB_BUFFER_POOL`` overrides the main one."""
    small = instance.is_small
    return Sizes(
        buffer_pool=os.environ.get("FLOODGATE_DB_BUFFER_POOL") or ("128M" if small else "512M"),
        redo_log="64M" if small else "512M",
        table_cache="2000" if small else "4000",
        cache_redis="64mb" if small else "256mb",
        durable_redis="256mb" if small else "1gb",
    )


def configure(instance: Instance) -> None:
    """Write every server's configuration and make its data folder when it has none yet."""
    for server in instance.database_servers:
        _configure_database(instance, server)
    for server in instance.redis_servers:
        _configure_redis(instance, server)


def command_of(instance: Instance, server: Server) -> list[str]:
    """The command that runs the server in the foreground."""
    if server in instance.redis_servers:
        return [_program("redis-server"), str(instance.conf_folder / f"{server.program}.conf")]
    defaults = f"--defaults-file={instance.conf_folder / f'{server.program}.cnf'}"
    if instance.db == "mysql":
        return [*mysql_root.mysqld_command(), defaults]
    return [_program("mariadbd"), defaults]


def wait_until_answering(instance: Instance, servers: list[Server], *, timeout_s: float) -> Server | None:
    """Wait until each of the servers takes clients; return the first that does not within the time, or None."""
    deadline = time.monotonic() + timeout_s
    for server in servers:
        answers = _redis_answers if server in instance.redis_servers else _database_answers
        while not answers(instance.ports[server.port_name]):
            if time.monotonic() > deadline:
                return server
            time.sleep(0.05)
    return None


def _database_answers(port: int) -> bool:
    """Whether a server greets on the port: it does so only once its init file (users, schemas) has run."""
    greeting = _exchange(port, b"", 5)
    return len(greeting) == 5 and greeting[4] == 10  # protocol version 10; 0xFF would be an error packet


def _redis_answers(port: int) -> bool:
    """Whether Redis serves commands: while it reads its append-only file it answers ``-LOADING``."""
    return _exchange(port, b"PING\r\n", 5) == b"+PONG"


def _exchange(port: int, request: bytes, size: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(request)
        received = b""
        while len(received) < size and (more := connection.recv(size - len(received))):
            received += more
        return received
    return b""


# -- databases ----------------------------------------------------------------------------------------------


def _configure_database(instance: Instance, server: Server) -> None:
    sizes = sizes_of(instance)
    data_folder = instance.data_folder / server.program
    # Its own, not the machine's: a server that starts deletes whatever temporary tables it finds there.
    temporary_folder = instance.data_folder / f"{server.program}.tmp"
    temporary_folder.mkdir(mode=0o700, exist_ok=True)
    init_file = instance.conf_folder / f"{server.program}.init.sql"
    options: dict[str, str] = {
        "datadir": str(data_folder),
        "tmpdir": str(temporary_folder),
        "socket": str(instance.socket_folder / f"{server.program}.sock"),
        "pid-file": str(instance.run_folder / f"{server.program}.server-pid"),
        "port": str(instance.ports[server.port_name]),
        "server-id": str(instance.ports[server.port_name]),
        "init-file": str(init_file),
        "innodb-buffer-pool-size": sizes.buffer_pool,
        "table-open-cache": sizes.table_cache,
        **_COMMON_OPTIONS,
        **(_TEST_OPTIONS if instance.is_test else {}),
    }
    options["open-files-limit"] = str(min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if os.geteuid() == 0:
        options["user"] = "root"
    if instance.db == "mysql":
        options |= _MYSQL_OPTIONS | mysql_root.options() | {"innodb-redo-log-capacity": sizes.redo_log}
        options["performance-schema"] = "OFF" if instance.is_small else "ON"
    else:
        options |= _MARIADB_OPTIONS | {"innodb-log-file-size": sizes.redo_log}
    lines = [f"{key}={value}" for key, value in options.items()]
    configuration = instance.conf_folder / f"{server.program}.cnf"
    _write(configuration, "[mysqld]\n" + "\n".join(lines) + "\n")
    _write(init_file, _init_sql(instance, server))
    if not data_folder.exists():
        _initialise_database(instance, server, data_folder, temporary_folder)


def _init_sql(instance: Instance, server: Server) -> str:
    """Statements that the server runs at each start before it takes clients, each harmless when repeated."""
    user = "'floodgate'@'127.0.0.1'"
    password = instance.secrets()["FLOODGATE_DB_PASSWORD"]
    # MariaDB's administrator comes in by the socket of the user that it runs as; MySQL's is given the same password.
    administrator = [f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}'"] if instance.db == "mysql" else []
    statements = [
        "SET SESSION sql_log_bin = 0",
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}'",
        f"ALTER USER {user} IDENTIFIED BY '{password}'",
        # To see who waits for whom (audit, tests), and to read the binlog (change data capture).
        f"GRANT PROCESS, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}",
        f"GRANT ALL PRIVILEGES ON `{instance.schema_prefix}\\_%`.* TO {user}",
        f"GRANT ALL PRIVILEGES ON `test\\_%`.* TO {user}",
        *administrator,
        *(f"CREATE DATABASE IF NOT EXISTS `{schema}`" for schema in server.schemas),
    ]
    return "".join(f"{statement};\n" for statement in statements)


def _initialise_database(instance: Instance, server: Server, data_folder: Path, temporary_folder: Path) -> None:
    """Make the data folder under another name first, so that a kill in between leaves nothing half made."""
    part = data_folder.with_name(f"{data_folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if instance.db == "mysql":
        command = [*mysql_root.mysqld_command(), "--no-defaults", "--initialize-insecure", f"--datadir={part}"]
        command += [f"--{key}={value}" for key, value in mysql_root.options().items()]
        command += ["--user=root"] if os.geteuid() == 0 else []
    else:
        command = [_program("mariadb-install-db"), "--no-defaults", f"--datadir={part}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={getpass.getuser()}"]
        command += ["--skip-name-resolve", "--user=root"] if os.geteuid() == 0 else ["--skip-name-resolve"]
    command += [f"--tmpdir={temporary_folder}"]
    log = instance.log_folder / "setup.log"
    with log.open("ab") as output:
        output.write(f"\n== first set-up of {server.program}\n".encode())
        output.flush()
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if result.returncode != 0:
        raise StackError(f"{server.program} could not be set up (exit {result.returncode}); see {log}")
    part.rename(data_folder)


# -- Redis --------------------------------------------------------------------------------------------------


def _configure_redis(instance: Instance, server: Server) -> None:
    data_folder = instance.data_folder / server.program
    data_folder.mkdir(mode=0o700, exist_ok=True)
    sizes = sizes_of(instance)
    options = [
        "bind 127.0.0.1",
        f"port {instance.ports[server.port_name]}",
        f'dir "{data_folder}"',
        "daemonize no",
        # The command line keeps the path of this file, by which a left-over server is recognised.
        "set-proc-title no",
        'save ""',
        "tcp-keepalive 60",
        "maxclients 4000",
    ]
    if server.program == "redis-durable":
        # Streams, tickets and the Celery broker: written to disk before the answer, never evicted.
        flush = "everysec" if instance.is_test else "always"
        options += ["appendonly yes", f"appendfsync {flush}", f"maxmemory {sizes.durable_redis}"]
        options += ["maxmemory-policy noeviction"]
    else:
        options += ["appendonly no", f"maxmemory {sizes.cache_redis}", "maxmemory-policy allkeys-lru"]
    _write(instance.conf_folder / f"{server.program}.conf", "\n".join(options) + "\n")


def _program(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise StackError(f"{name} is not installed; `make setup` installs it or says how")
    return path


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
