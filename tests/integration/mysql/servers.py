"""A database server of the test's own, to be stopped, killed and started again, and a proxy that swallows answers."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import MySQLdb

from deploy.local import mysql_root

_PASSWORD = "throw-away"
IS_ORACLE = os.environ.get("FLOODGATE_DB_KIND") == "mysql"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ThrowAwayServer:
    """A MariaDB or MySQL server (the kind that the tests run on) in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Make the data folder."""
        self._temporary.mkdir(parents=True)
        if IS_ORACLE:
            command = [*mysql_root.mysqld_command(), "--no-defaults", "--initialize-insecure", *self._options()]
        else:
            command = ["mariadb-install-db", "--no-defaults", "--skip-test-db", "--skip-name-resolve"]
            command += [f"--datadir={self._data}", f"--tmpdir={self._temporary}", "--user=root"]
        with (self.folder / "install.log").open("wb") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)

    def copy_of(self, other: "ThrowAwayServer") -> None:
        """Take the data folder of another server that does not run."""
        self._temporary.mkdir(parents=True)
        shutil.copytree(other._data, self._data)
        (self._data / "auto.cnf").unlink(missing_ok=True)

    def start(self) -> None:
        """Start the server and wait until it serves."""
        init = self.folder / "init.sql"
        init.write_text(
            "CREATE DATABASE IF NOT EXISTS scratch;\n"
            f"CREATE USER IF NOT EXISTS 'tester'@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';\n"
            "GRANT ALL ON *.* TO 'tester'@'127.0.0.1';\n"
        )
        command = mysql_root.mysqld_command() if IS_ORACLE else [shutil.which("mariadbd") or "/usr/sbin/mariadbd"]
        command += ["--no-defaults", *self._options(), f"--port={self.port}", f"--init-file={init}"]
        command += ["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200", "--skip-log-bin"]
        command += [f"--socket={self.folder / 's'}", f"--pid-file={self.folder / 'server.pid'}"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(MySQLdb.Error):
                self.connect().close()
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.05)

    def freeze(self) -> None:
        """Stop the server as SIGSTOP does: its sockets stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGKILL)
            self._process.wait()

    def connect(self) -> Any:
        """A plain connection beside the tested ones."""
        return MySQLdb.connect(
            host="127.0.0.1", port=self.port, user="tester", password=_PASSWORD, database="scratch", autocommit=True
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())
        finally:
            connection.close()

    def client_count(self) -> int:
        """How many clients are connected, the one that asks left out."""
        rows = self.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'tester'")
        return int(rows[0][0]) - 1

    def settings(
        self, *, port: int | None = None, engine: str = "infra.mysql", connect_timeout_s: float = 5.0, **pool: Any
    ) -> dict[str, Any]:
        """An entry of Django's DATABASES for this server.

        A busy machine may take longer to connect than the backend's own second; tests of that limit set it.
        """
        return {
            "ENGINE": engine,
            "HOST": "127.0.0.1",
            "PORT": port or self.port,
            "USER": "tester",
            "PASSWORD": _PASSWORD,
            "NAME": "scratch",
            "POOL": {"connect_timeout_s": connect_timeout_s, **pool},
        }

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    def _options(self) -> list[str]:
        options = [f"--datadir={self._data}", f"--tmpdir={self._temporary}", "--innodb-buffer-pool-size=32M"]
        if os.geteuid() == 0:
            options.append("--user=root")
        if IS_ORACLE:
            options += [f"--{name}={value}" for name, value in mysql_root.options().items()]
            options += ["--mysqlx=OFF", "--performance-schema=OFF"]
        return options

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class SwallowingProxy:
    """A TCP proxy that hands everything through until it sees a word from the client; then the server's answer is lost.

    With `forward` the word still reaches the server. The client's connection is closed instead of answered; with
    `reset` as the kernel of a killed server does it, with `silent` left open without an answer. With `last` no client
    is taken from then on.
    """

    def __init__(
        self,
        port: int,
        word: bytes,
        *,
        forward: bool,
        silent: bool = False,
        reset: bool = False,
        last: bool = False,
    ) -> None:
        self._reset = reset
        self._target = port
        self._word = word
        self._forward = forward
        self._silent = silent
        self._last = last
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more clients and let go of those there are."""
        self._stop_listening()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            swallowed = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, swallowed), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server, swallowed), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, swallowed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while sent := client.recv(65536):
                if self._word in sent:
                    swallowed.set()
                    if self._last:
                        self._stop_listening()
                    if self._forward:
                        server.sendall(sent)
                        time.sleep(0.2)  # time for the server to do it
                    if self._reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        client.close()
                    elif not self._silent:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                else:
                    server.sendall(sent)

    def _to_client(self, client: socket.socket, server: socket.socket, swallowed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while answer := server.recv(65536):
                if not swallowed.is_set():
                    client.sendall(answer)
