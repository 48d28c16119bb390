"""Databases: one alias for each kind of data, one for each shard (docs/architecture.md)."""

from typing import Any
from urllib.parse import unquote, urlsplit

from config import env

GLOBAL_ALIASES = ("default", "users", "catalog", "inventory", "promotions")
DB_PREFIX = env.text("FLOODGATE_DB_PREFIX", local="floodgate")

# In a web worker a query may take this long before its user is told that the database is unavailable. Commands and
# background workers may take longer.
QUERY_TIMEOUT_S = env.number("FLOODGATE_DB_QUERY_TIMEOUT_S", default=3.0)
BLOCKING_QUERY_TIMEOUT_S = env.number("FLOODGATE_DB_BLOCKING_QUERY_TIMEOUT_S", default=30.0)
# Connections of one web worker to one alias, at most, and how long a request waits for one before it is told
# `overloaded`: a burst on one SKU queues here, in order, rather than on the row's lock.
POOL_SIZE = env.integer("FLOODGATE_DB_POOL_SIZE", default=16)
POOL_WAIT_S = env.number("FLOODGATE_DB_POOL_WAIT_S", default=4.0)


def _database(url: str, alias: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "infra.mysql",
        "NAME": f"{DB_PREFIX}_{alias}",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "127.0.0.1",
        "PORT": str(parts.port or 3306),
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "ATOMIC_REQUESTS": False,
        "TIME_ZONE": "UTC",
        # Bounds in each process (infra.mysql.options); the backend sets the session itself.
        "POOL": {
            "size": POOL_SIZE,
            "wait_s": POOL_WAIT_S,
            "query_timeout_s": QUERY_TIMEOUT_S,
            "blocking_query_timeout_s": BLOCKING_QUERY_TIMEOUT_S,
        },
        "TEST": {"NAME": f"test_{DB_PREFIX}_{alias}", "CHARSET": "utf8mb4", "DEPENDENCIES": []},
    }


_SHARD_URLS = env.text_list("FLOODGATE_DB_SHARD_URLS")
DATABASES = {alias: _database(env.text("FLOODGATE_DB_GLOBAL_URL"), alias) for alias in GLOBAL_ALIASES} | {
    f"shard_{number}": _database(url, f"shard_{number}") for number, url in enumerate(_SHARD_URLS)
}
SHARD_ALIASES = tuple(f"shard_{number}" for number in range(len(_SHARD_URLS)))
DATABASE_ROUTERS = ["infra.sharding.router.PlacementRouter"]

# Sizes the partitions of a month's tables: orders of all shards in one month (design: 62 million at two million a day).
MONTHLY_ORDERS_FORECAST = env.integer(
    "FLOODGATE_MONTHLY_ORDERS", default=62_000_000 if env.IS_PRODUCTION else 4_000_000
)
MONTHS_AHEAD = 2

# Lease renewal and refreshing of the slot map start with their first use in a process. Tests switch that off, so that
# nothing reads the databases beside them.
BACKGROUND_STARTS_ON_USE = True
