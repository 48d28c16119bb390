"""The one-machine stack as a newcomer and a fault injector meet it: its servers, on an instance of their own."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import MySQLdb
import pytest
import redis

from tests.e2e.stack import ROOT, TEST_PORT_BASE, wait_for

PORT_BASE = TEST_PORT_BASE + 1000
SERVERS = {"mariadb-global", "mariadb-shard-0", "mariadb-shard-1", "redis-durable", "redis-cache"}


class Instance:
    """An instance with its own name and ports, of which only the servers are started."""

    def __init__(self, name: str, port_base: int) -> None:
        self.name, self.port_base = name, port_base
        self.folder = ROOT / "var" / name

    def stack(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "deploy" / "local" / "stack.py")]
        command += ["--instance", self.name, "--port-base", str(self.port_base), *words]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLOODGATE_")}
        return subprocess.run(
            command, env=inherited | environment, capture_output=True, text=True, timeout=150, check=False
        )

    def up(self) -> None:
        done = self.stack("up", "--only", "servers")
        assert done.returncode == 0, done.stderr

    def process_ids(self) -> dict[str, int]:
        lines = self.stack("status").stdout
        return {name: int(pid) for name, pid in re.findall(r"^(\S+) RUNNING pid (\d+)", lines, re.MULTILINE)}

    def environment(self) -> dict[str, str]:
        exported = self.stack("env").stdout
        return dict(re.findall(r"^export (\w+)='?(.*?)'?$", exported, re.MULTILINE))

    def connect(self, url: str) -> MySQLdb.Connection:
        parts = urlsplit(url)
        return MySQLdb.connect(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            autocommit=True,
            connect_timeout=2,
        )

    def urls(self) -> list[str]:
        environment = self.environment()
        return [environment["FLOODGATE_DB_GLOBAL_URL"], *environment["FLOODGATE_DB_SHARD_URLS"].split(",")]

    def durable_redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.environment()["FLOODGATE_REDIS_DURABLE_URL"], socket_timeout=2)


@pytest.fixture(scope="module")
def servers() -> Iterator[Instance]:
    instance = Instance(f"servers-{PORT_BASE}", PORT_BASE)
    instance.stack("reset")
    instance.up()
    yield instance
    instance.stack("reset")


def test_status_tells_running_processes_and_no_other_line_has_the_word_pid(servers):
    # when
    lines = servers.stack("status").stdout.splitlines()

    # then
    running = [line for line in lines if re.match(r"^[a-z0-9-]+ RUNNING pid \d+\b", line)]
    assert {line.split()[0] for line in running} == SERVERS
    others = [line for line in lines if line not in running]
    assert {line.split()[0] for line in others} >= {"gunicorn", "celery-worker", "celery-beat", "sandbox"}
    assert not [line for line in others if "pid" in line]
    for line in running:
        name, process_id = line.split()[0], line.split()[3].rstrip(",")
        command = Path(f"/proc/{process_id}/cmdline").read_text()
        assert name in command


def test_a_second_start_is_quick_and_touches_nothing(servers):
    # given
    before = servers.process_ids()

    # when
    began_s = time.monotonic()
    servers.up()

    # then
    assert time.monotonic() - began_s < 5
    assert servers.process_ids() == before


def test_two_starts_at_once_both_succeed(servers):
    # when
    with ThreadPoolExecutor() as pool:
        starts = list(pool.map(lambda _: servers.stack("up", "--only", "servers"), range(2)))

    # then
    assert [done.returncode for done in starts] == [0, 0], [done.stderr for done in starts]


def test_every_database_is_fully_durable_and_strict(servers):
    # given
    promised = {
        "innodb_flush_log_at_trx_commit": "1",
        "sync_binlog": "1",
        "log_bin": "ON",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "tx_isolation": "READ-COMMITTED",
        "time_zone": "+00:00",
        "innodb_lock_wait_timeout": "3",
        "idle_transaction_timeout": "10",
        "bind_address": "127.0.0.1",
    }
    for url in servers.urls():
        # when
        cursor = servers.connect(url).cursor()
        cursor.execute("SHOW GLOBAL VARIABLES")
        variables = dict(cursor.fetchall())

        # then
        assert {name: variables[name] for name in promised} == promised
        assert "STRICT_TRANS_TABLES" in variables["sql_mode"]
    configured = servers.durable_redis().config_get("append*")
    assert (configured["appendonly"], configured["appendfsync"]) == ("yes", "always")


def test_a_killed_server_comes_back_with_all_that_it_acknowledged(servers):
    # given a row on a shard and an entry in the durable Redis, both acknowledged
    shard_url = servers.urls()[1]
    cursor = servers.connect(shard_url).cursor()
    cursor.execute("CREATE TABLE floodgate_shard_0.survivor (id INT PRIMARY KEY)")
    cursor.execute("INSERT INTO floodgate_shard_0.survivor VALUES (1)")
    servers.durable_redis().set("survivor", "1")
    before = servers.process_ids()

    # when both servers are killed at once
    for name in ("mariadb-shard-0", "redis-durable"):
        os.kill(before[name], signal.SIGKILL)

    # then they are back by themselves, as other processes, with the data
    def row_count() -> int:
        try:
            cursor = servers.connect(shard_url).cursor()
        except MySQLdb.OperationalError:
            return 0
        cursor.execute("SELECT COUNT(*) FROM floodgate_shard_0.survivor")
        return cursor.fetchone()[0]

    def entry() -> bytes | None:
        try:
            return servers.durable_redis().get("survivor")
        except redis.RedisError:
            return None

    wait_for("the row", row_count, within_s=15)
    wait_for("the entry", entry, within_s=5)
    after = wait_for(
        "all servers", lambda: len(servers.process_ids()) == len(SERVERS) and servers.process_ids(), within_s=5
    )
    assert {name for name in SERVERS if before[name] != after[name]} == {"mariadb-shard-0", "redis-durable"}


def test_what_a_killed_supervisor_left_behind_is_told_and_ended_by_the_next_start(servers):
    # given
    cursor = servers.connect(servers.urls()[0]).cursor()
    cursor.execute("CREATE TABLE floodgate_default.survivor (id INT PRIMARY KEY)")
    before = servers.process_ids()
    supervisor_id = int((servers.folder / "run" / "supervisord.pid").read_text())

    # when
    os.kill(supervisor_id, signal.SIGKILL)
    wait_for("the supervisor's end", lambda: not servers.process_ids(), within_s=5)

    # then the status tells what is left over, in lines that no script takes for running processes
    told = servers.stack("status")
    assert told.returncode != 0
    assert {line.split()[0] for line in told.stdout.splitlines() if " LEFT-OVER " in line} == SERVERS
    assert "pid" not in told.stdout

    # and the next start ends it and loses nothing
    servers.up()
    after = servers.process_ids()
    assert after.keys() == SERVERS
    assert not set(before.values()) & set(after.values())
    cursor = servers.connect(servers.urls()[0]).cursor()
    cursor.execute("SHOW TABLES FROM floodgate_default LIKE 'survivor'")
    assert cursor.fetchall() == (("survivor",),)


def test_secrets_are_made_once_and_only_their_owner_reads_them(servers):
    # given
    path = servers.folder / "secrets.env"
    before = path.read_text()

    # when
    servers.up()

    # then
    assert path.read_text() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for generated in (*servers.folder.glob("conf/*"), *servers.folder.glob("*.json")):
        assert stat.S_IMODE(generated.stat().st_mode) == 0o600, generated


def test_a_command_is_told_the_instance_and_its_failure_is_passed_on(servers):
    # when
    done = servers.stack("exec", "--", "sh", "-c", 'echo "$FLOODGATE_INSTANCE"; exit 7')

    # then
    assert (done.stdout.strip(), done.returncode) == (servers.name, 7)


def test_the_instance_decides_its_own_addresses_and_the_caller_the_other_settings(servers):
    # when
    done = servers.stack("env", FLOODGATE_DB_GLOBAL_URL="mysql://elsewhere", FLOODGATE_LOG_LEVEL="DEBUG")

    # then
    assert "elsewhere" not in done.stdout
    assert "export FLOODGATE_LOG_LEVEL=DEBUG" in done.stdout.splitlines()


def test_a_running_instance_cannot_be_started_on_other_ports(servers):
    # given
    elsewhere = Instance(servers.name, PORT_BASE + 100)
    before = servers.process_ids()

    # when
    done = elsewhere.stack("up", "--only", "servers")

    # then
    assert done.returncode != 0
    assert "runs on other ports" in done.stderr
    servers.up()
    assert servers.process_ids() == before


def test_a_taken_port_is_told_with_its_part_and_its_holder_before_anything_starts():
    # given somebody who listens where the first shard's server wants to
    instance = Instance(f"test-stack-taken-{PORT_BASE}", PORT_BASE + 500)
    with socket.create_server(("127.0.0.1", instance.port_base + 307)):
        # when
        done = instance.stack("up", "--only", "servers")

    # then
    try:
        assert done.returncode != 0
        assert f"port {instance.port_base + 307}, which mariadb-shard-0 needs" in done.stderr
        assert f"process {os.getpid()} " in done.stderr
        assert not (instance.folder / "run" / "supervisord.pid").exists()
    finally:
        instance.stack("reset")


def test_ports_are_chosen_by_environment_and_remembered():
    # given
    name = f"test-stack-ports-{PORT_BASE}"
    command = [sys.executable, str(ROOT / "deploy" / "local" / "stack.py"), "--instance", name]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLOODGATE_")}

    def exported(**chosen: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, "env"], env=environment | chosen, capture_output=True, text=True, check=False)

    try:
        # then an instance without a port base is refused with the way to give it one
        assert "--port-base" in exported().stderr
        # and a base moves every port but those that are chosen one by one
        told = exported(FLOODGATE_TEST_PORT_BASE="27400", FLOODGATE_TEST_PORT_REDIS_CACHE="27999").stdout
        assert "FLOODGATE_PUBLIC_URL=http://127.0.0.1:27400" in told
        assert "FLOODGATE_REDIS_CACHE_URL=redis://127.0.0.1:27999/0" in told
        # and what is no port is refused
        assert "not a port" in exported(FLOODGATE_TEST_PORT_BASE="80").stderr
    finally:
        shutil.rmtree(ROOT / "var" / name, ignore_errors=True)


def test_a_reset_leaves_nothing(servers):
    # when
    done = servers.stack("reset")

    # then
    assert done.returncode == 0, done.stderr
    assert not servers.folder.exists()
    # the module's other tests find it again, empty
    servers.up()
    cursor = servers.connect(servers.urls()[0]).cursor()
    cursor.execute("SHOW TABLES FROM floodgate_default")
    assert cursor.fetchall() == ()
