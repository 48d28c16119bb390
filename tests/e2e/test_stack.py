"""The whole stack as a person starts it: what `make run` promises and prints, and that every process heals."""

import json
import os
import re
import signal
import subprocess
import time

import requests

from deploy.local.processes import children_of
from tests.e2e.stack import INSTANCE, ROOT, Stack, wait_for

APPLICATION = {
    "nginx",
    "gunicorn",
    "admin",
    "sandbox",
    "relay-promotions",
    "relay-shard-0",
    "relay-shard-1",
    "consumer-0",
    "consumer-1",
    "webhooks",
    "celery-worker",
    "celery-beat",
}
SECOND_START_S = 5


def _start_again(stack: Stack) -> str:
    done = stack._run("up", timeout_s=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_second_start_is_quick_and_leaves_every_process_alone(healthy):
    # given
    _start_again(healthy)
    before = healthy.pids()

    # when
    began_s = time.monotonic()
    _start_again(healthy)

    # then
    assert time.monotonic() - began_s < SECOND_START_S
    assert healthy.pids() == before
    assert before.keys() >= APPLICATION


def test_the_printed_first_order_works_as_it_stands(healthy):
    # given
    printed = _start_again(healthy)
    lines = printed.partition("A first order:\n")[2]
    assert lines, printed

    # when
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, timeout=30, check=False)

    # then
    order = json.loads(done.stdout)
    assert order.get("status") == "pending_payment", order


def test_every_process_of_the_application_comes_back_after_a_kill(healthy):
    # given
    before = healthy.pids()

    # when all are killed at once
    for name in APPLICATION:
        os.kill(before[name], signal.SIGKILL)

    # then all are back by themselves, as other processes
    def healed() -> bool:
        now = healthy.pids()
        return now.keys() == before.keys() and not any(now[name] == before[name] for name in APPLICATION)

    wait_for("every process", healed, within_s=30)
    healthy.wait_until_ok(within_s=30)
    wait_for("the staff's site", lambda: _status_of(f"{healthy.staff}/metrics") == 200, within_s=30)
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=5)
    [shopper] = healthy.shoppers(1)
    assert shopper.place((sku, 1)).status_code == 201


def test_a_start_after_changed_code_renews_the_processes_and_leaves_the_servers_alone(healthy):
    # given
    _start_again(healthy)
    before = healthy.pids()
    workers = children_of(before["gunicorn"])

    # when the code that the processes were started with is no longer what a start would give them
    path = ROOT / "var" / INSTANCE / "run" / "application.version"
    path.write_text(f"{path.read_text().split()[0]} another")
    _start_again(healthy)

    # then the masters of nginx and gunicorn stay and replace their workers, the others are started anew, the servers
    # are untouched
    after = healthy.pids()
    renewed = {name for name in before if before[name] != after[name]}
    assert renewed == APPLICATION - {"nginx", "gunicorn", "admin"}
    assert workers
    assert not workers & children_of(after["gunicorn"])


def test_logs_and_status_of_one_program_can_be_asked_for(stack):
    # when
    told = stack._run("logs", "gunicorn")

    # then
    assert told.returncode == 0
    assert re.search(r"Listening at: http://127\.0\.0\.1:\d+", told.stdout)
    assert stack._run("logs", "nothing-of-that-name").returncode != 0


def test_a_failing_management_command_is_told_by_the_exit_code(stack):
    assert stack._run("manage", "check").returncode == 0
    assert stack._run("manage", "no_such_command").returncode != 0


def _status_of(url: str) -> int:
    try:
        return requests.get(url, timeout=5).status_code
    except requests.RequestException:
        return 0
