"""What the bench's figures and verdicts stand on: the client, the kills, the CPU by program, the kept results."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest

from bench.ablation import AblationScenario
from bench.buyers import ORDERED, Counts, Purchase, SaleBuyers
from bench.cpu import cpu_us_each
from bench.flood import Flood
from bench.http_client import ConnectionLost, HttpClient
from bench.kills import plan
from bench.load import percentiles
from bench.report import write_report
from bench.result import Result, Table, load_history, save
from bench.scenario import Buyer, Options

ORDER = b'HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{"id":"7"}'
BUSY = b'HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 21\r\n\r\n{"code":"overloaded"}'
SOLD_OUT = b'HTTP/1.1 409 Conflict\r\nContent-Length: 19\r\n\r\n{"code":"sold_out"}'
NOTHING = b""


@asynccontextmanager
async def server_of(answers):
    """Answer request after request, an empty answer by closing; yields the address and the requests."""
    left, seen = iter(answers), []

    async def serve(reader, writer):
        while (head := await reader.readuntil(b"\r\n\r\n")) and (answer := next(left)):
            seen.append(head.decode())
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(answer)
        seen.append(head.decode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def bought(answers, *, give_up_at_s=float("inf")):
    """Let one buyer buy at a server with these answers; returns the purchase and the requests' keys."""

    async def buy():
        async with server_of(answers) as (url, seen):
            client = HttpClient(url, size=2, timeout_s=5)
            sale = SaleBuyers(client, sale_id="1", sku="A", give_up_at_s=give_up_at_s, rng=random.Random(1))
            purchase = await sale.buy(Buyer("5", "token", "9"), asyncio.Semaphore(1))
            client.close()
            keys = {line for head in seen for line in head.split("\r\n") if line.startswith("Idempotency-Key")}
            return purchase, sale.counts, keys

    return asyncio.run(buy())


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr("bench.buyers._RETRY_S", 0.0)


def test_a_buyer_repeats_the_same_key_until_told(no_pause):
    purchase, counts, keys = bought([BUSY, NOTHING, ORDER])

    assert (purchase.outcome, purchase.order_id) == (ORDERED, "7")
    assert counts.repeats == {"overloaded": 1, "connection lost": 1}
    assert len(keys) == 1


def test_a_refusal_is_an_outcome():
    purchase, _, _ = bought([SOLD_OUT])

    assert (purchase.outcome, purchase.order_id) == ("sold_out", "")


def test_a_buyer_gives_up_when_the_time_is_over():
    purchase, counts, _ = bought([ORDER], give_up_at_s=0)

    assert (purchase.outcome, counts.requests) == ("unsettled", 0)


def test_a_server_that_is_not_there_is_a_lost_connection():
    client = HttpClient("http://127.0.0.1:9", size=1, timeout_s=5)
    with pytest.raises(ConnectionLost):
        asyncio.run(client.request("GET", "/", headers={}))


def test_kills_are_the_same_for_the_same_seed_and_of_all_kinds():
    kills = [plan(random.Random(seed), rounds=3, progress=4_500, shard_server="mariadb-shard-1") for seed in (1, 1, 2)]

    assert kills[0] == kills[1] != kills[2]
    killed = [kill.program.replace("cache", "").replace("durable", "") for kill in kills[0]]
    assert sorted(killed) == sorted(["gunicorn", "celery-worker", "redis-", "mariadb-shard-1"] * 3)
    assert [kill.at for kill in kills[0]] == sorted(kill.at for kill in kills[0])


def flood(purchases, *, stored, left=0):
    run = Flood("direct", 2, purchases, Counts(), [], 1.0, stored, left)
    run.check()
    return run.failures


def purchase(user_id, order_id):
    return Purchase(user_id, ORDERED if order_id else "sold_out", order_id)


def test_a_flood_holds_when_all_units_went_to_different_buyers():
    assert not flood([purchase("1", "7"), purchase("2", "8"), purchase("3", "")], stored={"a": {"7"}, "b": {"8"}})


@pytest.mark.parametrize(
    ("purchases", "stored", "left"),
    [
        ([purchase("1", "7")], {"a": {"7"}, "b": set()}, 1),  # undersold
        ([purchase("1", "7"), purchase("2", "8"), purchase("3", "9")], {"a": {"7"}, "b": {"8", "9"}}, 0),  # oversold
        ([purchase("1", "7"), purchase("2", "8")], {"a": {"7"}, "b": set()}, 0),  # one is lost
        ([purchase("1", "7"), purchase("2", "8")], {"a": {"7"}, "b": {"8", "9"}}, 0),  # one was told to nobody
        ([purchase("1", "7"), purchase("1", "8")], {"a": {"7"}, "b": {"8"}}, 0),  # above the limit
        ([purchase("1", "7"), purchase("2", "8"), Purchase("3")], {"a": {"7"}, "b": {"8"}}, 0),  # not told
    ],
)
def test_a_flood_fails_when_anything_is_wrong(purchases, stored, left):
    assert flood(purchases, stored=stored, left=left)


def test_the_cpu_of_a_program_that_was_started_again_counts_from_its_start():
    before = {("gunicorn", 1): 10.0, ("redis", 2): 5.0}
    after = {("gunicorn", 1): 11.0, ("redis", 3): 0.5}

    assert cpu_us_each(before, after, count=1000) == {"gunicorn": 1000.0, "redis": 500.0}


def test_percentiles():
    assert percentiles([0.001 * n for n in range(1, 101)]) == (51, 91, 96, 100)
    assert percentiles([]) == (0, 0, 0, 0)


def result(scenario, ratio, **fields):
    latencies = {f"p{percent}_ms": 1.0 for percent in (50, 90, 95, 99)}
    return Result(
        scenario=scenario, qps=ratio * 100, control_qps=100, ratio=ratio, **latencies, requests=10, errors={},
        cpu_us_per_request={"gunicorn": 5.0}, acknowledged=1, stored=1, audit_findings=0, **fields,
    )  # fmt: skip


def test_an_ablation_shows_what_is_left_without_each_part(monkeypatch):
    ratios = iter([0.5, 0.1, 0.45, 0.3, 0.25, 0.4])
    monkeypatch.setattr(
        "bench.ablation._bench",
        lambda part, options: asdict(
            result("place", next(ratios), failures=["too slow"] if part.name == "linger" else [])
        ),
    )
    run = AblationScenario().run(Options(256, 15, "internal", 1, 0, 0), None)

    assert (run.scenario, run.ratio, run.failures) == ("ablation", 0.5, ["linger: too slow"])
    [table] = run.tables
    shares = {row[0]: row[table.columns.index("of the whole")] for row in table.rows}
    assert shares == {
        "nothing": 1.0,
        "group commit": 0.2,
        "linger": 0.9,
        "lean worker": 0.6,
        "fast lane": 0.5,
        "token memory": 0.8,
    }


def test_what_is_stored_is_compared_with_what_was_acknowledged():
    run = result("place", 0.5)
    run.check_books()
    assert not run.failures

    run.stored, run.audit_findings = 2, 1
    run.check_books()
    assert len(run.failures) == 2


def test_the_page_has_the_latest_of_each_scenario_and_needs_nothing_else(tmp_path):
    runs = [
        result("place", 0.25),
        result("place", 0.75, tables=[Table("figures", ["of", "n"], [["a <b>", 1]])]),
        result("read", 1.5, failures=["too slow"]),
    ]
    for run in runs:
        save(run, tmp_path)

    assert load_history(tmp_path) == runs
    page = write_report(tmp_path).read_text()
    assert "<td>0.750</td>" in page
    assert "<td>0.250</td>" not in page
    assert "a &lt;b&gt;" in page
    assert "too slow" in page
    assert "<script src=" not in page
