"""What can be set for an alias under `DATABASES[alias]["POOL"]`, and the session that every connection gets."""

from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

_SQL_MODE: Final = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_IN_DATE,NO_ZERO_DATE,NO_ENGINE_SUBSTITUTION"


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Bounds of one alias in one process; all times in seconds.

    `size` connections at most, `wait_s` for one of them. A connection is used for `max_age_s` in all and thrown away
    after `max_idle_s` unused. `query_timeout_s` bounds each statement in a gevent worker, `blocking_query_timeout_s`
    outside of it. `lock_wait_timeout_s` lies below `query_timeout_s`, so that a lock wait is told as such.
    `idle_transaction_timeout_s`: the server ends a transaction whose process is silent for so long. The breaker opens
    after `breaker_failures` in a row and probes every `breaker_reset_s`.
    """

    size: int = 16
    wait_s: float = 1.0
    max_age_s: float = 600.0
    max_idle_s: float = 7.0
    connect_timeout_s: float = 1.0
    query_timeout_s: float = 3.0
    blocking_query_timeout_s: float = 30.0
    lock_wait_timeout_s: int = 2
    idle_transaction_timeout_s: int = 10
    breaker_failures: int = 3
    breaker_reset_s: float = 1.0

    @classmethod
    def of(cls, settings_dict: dict[str, Any]) -> "PoolOptions":
        """Read the options of an alias; raises ImproperlyConfigured for an unknown one."""
        given = settings_dict.get("POOL", {})
        unknown = given.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise ImproperlyConfigured(f"unknown POOL options: {', '.join(sorted(unknown))}")
        return cls(**given)


def session_statement(server_version: str, options: PoolOptions) -> str:
    """Return the one statement that gives a new connection its session, for this server's dialect.

    READ COMMITTED, strict mode, UTC, short lock waits, and an end to idle transactions: MariaDB has a limit for these
    alone; on MySQL the limit for idle connections does it, and the pool throws them away earlier.
    """
    assignments = [
        "autocommit=1",
        f"sql_mode='{_SQL_MODE}'",
        "time_zone='+00:00'",
        "sql_auto_is_null=0",
        f"innodb_lock_wait_timeout={options.lock_wait_timeout_s}",
    ]
    if "mariadb" in server_version.lower():
        # Called transaction_isolation from MariaDB 11.1 on, where the old name stays as an alias.
        assignments.append("tx_isolation='READ-COMMITTED'")
        assignments.append(f"idle_transaction_timeout={options.idle_transaction_timeout_s}")
    else:
        assignments.append("transaction_isolation='READ-COMMITTED'")
        assignments.append(f"wait_timeout={options.idle_transaction_timeout_s}")
    return "SET " + ", ".join(f"SESSION {assignment}" for assignment in assignments)
