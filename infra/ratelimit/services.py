"""May this request pass? Asked by the middleware, by DRF views and by the fast lane alike.

Each function costs a look into a dict unless a process has used up what it has leased. A request is asked about once:
what is served through Django has had `check_address` and `check_route` in the middleware, and its view asks
`check_user`; what is served ahead of Django asks `check`, and takes its place in `IN_FLIGHT_REQUESTS`, itself.
"""

import math
from typing import Final

from infra.dynamic.services import on_change
from infra.errors import RateLimited
from infra.ratelimit.inflight import InFlight
from infra.ratelimit.leases import LeasedBuckets
from infra.ratelimit.limits import IN_FLIGHT, ROUTE_LIMITS, address_key, limit_of_address, limit_of_user
from infra.ratelimit.metrics import REFUSALS
from infra.sharding.background import Periodic

_REFRESH_INTERVAL_S: Final = 2.0

_users: Final[LeasedBuckets[int]] = LeasedBuckets("user", limit_of_user)
_addresses: Final[LeasedBuckets[str]] = LeasedBuckets("address", limit_of_address)
_routes: Final[LeasedBuckets[str]] = LeasedBuckets("route", ROUTE_LIMITS.of)

IN_FLIGHT_REQUESTS: Final = InFlight(IN_FLIGHT)
"""The requests that this process is serving."""


def check(*, route: str, address: str, user_id: int | None = None, exempt: bool = False) -> None:
    """Let a request pass or raise RateLimited, with the seconds to wait.

    `route` is what `route_name` returns, `address` the client's as `client_address` finds it; `exempt` users have no
    limit of their own.
    """
    check_address(address)
    check_route(route)
    if user_id is not None:
        check_user(user_id, exempt=exempt)


def check_user(user_id: int, *, exempt: bool) -> None:
    """Let a request of a user pass or raise RateLimited."""
    if not exempt and (wait_s := _users.take(user_id)):
        raise _refusal("user", wait_s)


def check_address(address: str) -> None:
    """Let a request from an address pass or raise RateLimited."""
    if wait_s := _addresses.take(address_key(address)):
        raise _refusal("address", wait_s)


def check_route(route: str) -> None:
    """Let a request for a route pass or raise RateLimited."""
    if ROUTE_LIMITS.of(route) is not None and (wait_s := _routes.take(route)):
        raise _refusal("route", wait_s)


def forget() -> None:
    """Begin anew with every key, as after a change of a limit."""
    for buckets in (_users, _addresses, _routes):
        buckets.forget()


def refresh_routes() -> None:
    """Read the limits of routes; raises the database's error."""
    if ROUTE_LIMITS.refresh():
        _routes.forget()


def _refusal(layer: str, wait_s: float) -> RateLimited:
    REFUSALS.labels(layer).inc()
    return RateLimited(f"Too many requests of this {layer}.", retry_after_s=math.ceil(wait_s))


on_change(forget)
_refreshing: Final = Periodic("route-limits", _REFRESH_INTERVAL_S, refresh_routes)
