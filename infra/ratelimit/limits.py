"""The limits that hold now: what the staff have set, what there is of routes, who is exempt."""

import logging
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from infra.dynamic.definitions import DynamicInteger
from infra.ratelimit.leases import Limit
from infra.ratelimit.models import RouteLimit
from infra.sharding.placement import HOME

logger = logging.getLogger(__name__)

_MAX_RATE: Final = 1_000_000

USER_PER_SECOND: Final = DynamicInteger(
    "limits.user.per_second",
    default=60,
    minimum=0,
    maximum=_MAX_RATE,
    meaning="Requests a second of one user (0: no limit).",
)
USER_BURST: Final = DynamicInteger(
    "limits.user.burst", default=240, minimum=1, maximum=_MAX_RATE, meaning="Requests of one user at once."
)
ADDRESS_PER_SECOND: Final = DynamicInteger(
    "limits.address.per_second",
    default=200,
    minimum=0,
    maximum=_MAX_RATE,
    meaning="Requests a second from one address, an IPv6 one with its whole /64 network (0: no limit).",
)
ADDRESS_BURST: Final = DynamicInteger(
    "limits.address.burst", default=400, minimum=1, maximum=_MAX_RATE, meaning="Requests from one address at once."
)
IN_FLIGHT: Final = DynamicInteger(
    "limits.in_flight",
    default=1000,
    minimum=1,
    maximum=_MAX_RATE,
    meaning="Requests that one worker process serves at once; further ones are told 503 at once.",
)


def limit_of_user(user_id: int) -> Limit | None:
    """Return what holds for a user who is not exempt."""
    return Limit(USER_PER_SECOND.value, USER_BURST.value) if USER_PER_SECOND.value else None


def limit_of_address(key: str) -> Limit | None:
    """Return what holds for an address or network as `address_key` writes it."""
    if not ADDRESS_PER_SECOND.value or is_exempt_address(key):
        return None
    return Limit(ADDRESS_PER_SECOND.value, ADDRESS_BURST.value)


@lru_cache(maxsize=10_000)
def address_key(address: str) -> str:
    """Return what is counted together: an IPv4 address, an IPv6 network of 64 bits, which is one customer's."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        if not parsed.is_loopback:
            return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def is_exempt_address(key: str) -> bool:
    """Tell whether no limit per address holds for an address or network as `address_key` writes it."""
    try:
        first = ip_network(key).network_address
    except ValueError:
        return False
    return any(first in ip_network(text) for text in settings.RATE_LIMIT_EXEMPT_NETWORKS)


class RouteLimits:
    """The limits of single routes, read from the database now and then."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}

    def of(self, route: str) -> Limit | None:
        """Return what holds for a route; no query."""
        return self._limits.get(route)

    def refresh(self) -> bool:
        """Read them, and tell whether any has changed. Raises the database's error; then the last ones hold."""
        rows = RouteLimit.objects.using(HOME).values_list("route", "per_second", "burst")
        limits = {route: Limit(per_second, burst) for route, per_second, burst in rows}
        changed = limits != self._limits
        self._limits = limits
        return changed


ROUTE_LIMITS: Final = RouteLimits()


def route_name(method: str | None, route: str) -> str:
    """Return a route's name as limits know it; HEAD counts as GET."""
    return f"{'GET' if method == 'HEAD' else method} {route}"


def known_routes() -> list[str]:
    """Return the names of all routes of the public API."""
    names: list[str] = []

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> None:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, route)
                continue
            view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
            methods = [method for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)]
            names.extend(route_name(method.upper(), route) for method in methods)

    walk(get_resolver(settings.API_URLCONF).url_patterns, "")
    return sorted(names)
