"""Scenario `staff-pages`: the admin's order list and order page beside millions of past orders."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import requests
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.orders.domain import OrderStatus
from apps.users.models import StaffUser
from bench.control import measure_controls
from bench.cpu import cpu_by_process, cpu_us_each
from bench.load import percentiles, run_wrk
from bench.past_orders import MONTHS, load_past_orders
from bench.result import Cell, Result, Table
from bench.scenario import Options, Scenario, Workspace, conclude
from bench.stack import products
from infra.sharding.months import Month

BELOW_MS: Final = 300
_BUYERS: Final = 20_000
_VISITS: Final = 25
_CONTROL_S: Final = 3
_CONTROL_CONNECTIONS: Final = 64
_ORDER_LINK: Final = re.compile(r'href="/admin/orders/(\d+)/')


class StaffPagesScenario(Scenario):
    """The staff's list of orders, narrowed in every way, and single orders, beside `--orders` past ones (3,000,000)."""

    name = "staff-pages"
    connections = 1

    def run(self, options: Options, workspace: Workspace) -> Result:
        """Load what is missing of the past orders, then visit each page again and again, one visit after the other."""
        this_month = Month.of(datetime.now(UTC))
        buyers = workspace.buyers(_BUYERS)
        skus = [sku["sku"] for product in products() for sku in product["skus"]]
        began_s = time.monotonic()
        loaded = load_past_orders(options.orders, buyers=buyers, skus=skus, before=this_month)
        load_s = time.monotonic() - began_s
        paths = workspace.paths()
        controls = measure_controls(
            lambda url, window_s: run_wrk("read", url, [paths], connections=_CONTROL_CONNECTIONS, window_s=window_s),
            seconds=_CONTROL_S,
        )
        cpu_before, began_s = cpu_by_process(), time.monotonic()
        with staff_session() as session:
            seen = {name: _visit(session, path) for name, path in _pages(session, this_month, buyers[0].user_id)}
        window_s = time.monotonic() - began_s
        times_s = [seconds for each in seen.values() for seconds in each]
        result = conclude(
            self.name,
            options,
            controls,
            per_second=len(times_s) / window_s,
            times=percentiles(times_s),
            requests=len(times_s),
            errors={},
            cpu_us_per_request=cpu_us_each(cpu_before, cpu_by_process(), count=len(times_s)),
            acknowledged=0,
            stored=0,
            window_s=window_s,
        )
        rows: list[list[Cell]] = [
            [name, percentiles(each).p50_ms, percentiles(each).p95_ms, round(max(each) * 1000, 1)]
            for name, each in seen.items()
        ]
        title = f"pages beside {loaded:,} orders of {MONTHS} months (loaded in {load_s:,.0f} s if they were missing)"
        result.tables.append(Table(title, ["page", "p50 ms", "p95 ms", "longest ms"], rows))
        result.failures += [f"{row[0]} took {row[2]} ms (p95)" for row in rows if float(row[2]) >= BELOW_MS]
        return result


@contextmanager
def staff_session() -> Iterator[requests.Session]:
    """Yield a browser in which somebody who may see everything has logged in; the account is deleted afterwards."""
    user = StaffUser.objects.create_superuser(f"bench-{secrets.token_hex(4)}")
    device = TOTPDevice.objects.create(user=user, confirmed=True)
    stored = SessionStore()
    stored[SESSION_KEY] = str(user.pk)
    stored[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    stored[HASH_SESSION_KEY] = user.get_session_auth_hash()
    stored[DEVICE_ID_SESSION_KEY] = device.persistent_id
    stored.save()
    try:
        with requests.Session() as session:
            session.cookies.set(settings.SESSION_COOKIE_NAME, stored.session_key or "")
            yield session
    finally:
        stored.delete()
        user.delete()


def _pages(session: requests.Session, this_month: Month, user_id: str) -> Iterator[tuple[str, Callable[[int], str]]]:
    """Yield each page's name and its path for the nth visit."""
    midway = this_month.starts_at - timedelta(days=180)
    deep = Month.of(midway).first_id
    window = f"placed_from={midway:%Y-%m-%dT%H:%M}&placed_to={midway + timedelta(days=1):%Y-%m-%dT%H:%M}"
    for name, query in {
        "newest": "",
        "half a year back": f"before={deep}",
        "of one day": window,
        "of one shopper": f"user={user_id}",
        **{f"status {status}": f"status={status}" for status in OrderStatus},
        "refunded, half a year back": f"status={OrderStatus.REFUNDED}&before={deep}",
    }.items():
        yield name, lambda _, query=query: f"/admin/orders/?{query}"  # type: ignore[misc]
    orders = _ORDER_LINK.findall(_get(session, f"/admin/orders/?before={deep}").text)
    yield "one order", lambda n: f"/admin/orders/{orders[n % len(orders)]}/"


def _visit(session: requests.Session, path: Callable[[int], str]) -> list[float]:
    """Return the seconds that each visit took, the first one (cold caches) left out."""
    times = []
    for n in range(_VISITS + 1):
        began_s = time.perf_counter()
        _get(session, path(n))
        times.append(time.perf_counter() - began_s)
    return times[1:]


def _get(session: requests.Session, path: str) -> requests.Response:
    answer = session.get(f"{settings.STAFF_URL}{path}", timeout=10, allow_redirects=False)
    if answer.status_code != 200:
        raise SystemExit(f"{path} was answered with {answer.status_code}")
    return answer


SCENARIOS = (StaffPagesScenario,)
