"""The running stack as the bench operates it: its commands, its products, its processes, what it has stored."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from django.conf import settings
from django.db import connections

from apps.orders.selectors import count_orders
from apps.promotions.domain import CouponKind
from apps.promotions.points.services import grant_points, new_grant_id
from apps.promotions.selectors import standing_claims
from apps.promotions.services import create_template, grant_coupons
from apps.promotions.types import CouponTerms, NewTemplate
from infra.sharding.months import Month
from infra.sharding.places import shard_aliases

ROOT = Path(__file__).resolve().parent.parent
STOCK_FOR_BENCH = 10_000_000
_AUDIT_WAIT_S = 60
_PAGE = 1_000


def manage(*arguments: str) -> str:
    """Run a management command with this process's environment and return its output."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def audit_findings() -> int:
    """Return how many findings last after the recovery bounds."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "audit", "--wait", str(_AUDIT_WAIT_S), "--json"],
        capture_output=True, text=True, timeout=_AUDIT_WAIT_S + 120, check=False,
    )  # fmt: skip
    try:
        lasting = json.loads(done.stdout)["lasting"]
    except (ValueError, KeyError) as error:
        raise SystemExit(f"the audit gave no result:\n{done.stdout}{done.stderr}") from error
    for finding in lasting[:20]:
        print(f"  audit: {finding['check']} {finding['subject']}: {finding['detail']}", file=sys.stderr)
    return len(lasting)


def products() -> list[dict[str, Any]]:
    """Return all products through the API."""
    found: list[dict[str, Any]] = []
    query = {"limit": "100"}
    while True:
        answer = requests.get(f"{settings.INTERNAL_URL}/api/v1/products", params=query, timeout=10).json()
        found += answer["results"]
        if not answer["next"]:
            return found
        query["cursor"] = answer["next"]


def first_sku() -> str:
    """Return one real SKU."""
    answer = requests.get(f"{settings.INTERNAL_URL}/api/v1/products", params={"limit": "1"}, timeout=10).json()
    return str(answer["results"][0]["skus"][0]["sku"])


def create_sale(sku: str, *, quota: int, per_user_limit: int, mode: str, lasts_s: int = 3600) -> str:
    """Open a flash sale of one SKU out of plenty of stock and return its id."""
    manage("adjust_stock", sku, "--to", str(STOCK_FOR_BENCH), "--reason", "bench")
    told = manage(
        "flash_sale", "create", "--sku", sku, "--price", "1.00", "--quota", str(quota),
        "--per-user-limit", str(per_user_limit), "--starts-in", "0", "--lasts", str(lasts_s), "--mode", mode,
    )  # fmt: skip
    sale_id = told.splitlines()[-1]
    manage("flash_sale", "warm_up", sale_id)
    return sale_id


def grant_bench_coupons(user_ids: Sequence[int], *, each: int) -> list[list[int]]:
    """Give each of these shoppers so many coupons of one template and return them, in the order of the shoppers."""
    now = datetime.now(UTC)
    template = create_template(
        NewTemplate(
            name="Bench",
            terms=CouponTerms(kind=CouponKind.AMOUNT, currency=settings.CURRENCY, amount=Decimal("0.05")),
            starts_at=now,
            ends_at=now + timedelta(days=1),
            per_user_limit=each,
            is_listed=False,
        ),
        by="bench",
        reason="bench",
        now=now,
    )
    granted: list[list[int]] = [[] for _ in user_ids]
    for _ in range(each):
        coupons = grant_coupons(
            user_ids=user_ids, template_id=template.id, by="bench", reason="bench", now=datetime.now(UTC)
        )
        for own, coupon in zip(granted, coupons, strict=True):
            own.append(coupon)
    return granted


def grant_bench_points(user_ids: Sequence[int]) -> None:
    """Give each of these shoppers more points than the orders of a run use."""
    for user_id in user_ids:
        grant_points(
            user_id=user_id,
            grant_id=new_grant_id(user_id),
            points=500,
            actor="bench",
            reason="bench",
            now=datetime.now(UTC),
        )


def stored_orders() -> int:
    """Count the real orders in all shards that were placed in this and the previous month."""
    connections.close_all()  # a server that was killed meanwhile has forgotten them
    month = Month.of(datetime.now(UTC))
    return count_orders(month) + count_orders(month.previous())


def sold_order_ids(sale_id: str) -> dict[str, set[str]]:
    """Return the orders of a sale whose units each shard holds as sold."""
    connections.close_all()
    ids: dict[str, set[str]] = {}
    for alias in shard_aliases():
        ids[alias] = set()
        after = (-1, 0)
        while page := standing_claims(alias, int(sale_id), after=after, limit=_PAGE):
            ids[alias].update(str(claim.order_id) for _, claim in page)
            after = page[-1][0], page[-1][1].order_id
    return ids


def process_ids() -> dict[str, int]:
    """Return the process id of each running program of the stack."""
    # Not by `make status`: the caller's shell may name another instance than the one whose environment this is.
    command = [
        sys.executable,
        str(ROOT / "deploy" / "local" / "stack.py"),
        "--instance",
        settings.VAR_DIR.name,
        "status",
    ]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False).stdout
    return {name: int(pid) for name, pid in re.findall(r"^(\S+) RUNNING pid (\d+)", status, re.MULTILINE)}


def wait_until_ready(*, within_s: float = 120) -> None:
    """Wait until the readiness check says `ok`; exits with what it says otherwise."""
    deadline_s = time.monotonic() + within_s
    told = ""
    while True:
        try:
            told = requests.get(f"{settings.PUBLIC_URL}/healthz/ready", timeout=5).json()["status"]
        except (requests.RequestException, ValueError, KeyError) as error:
            told = str(error)
        if told == "ok":
            return
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the stack is not ready: {told}")
        time.sleep(0.2)
