"""The register of monthly tables on each shard, as read and as remembered by this process."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from django.db import DatabaseError

from infra.errors import DomainError
from infra.sharding.background import Periodic
from infra.sharding.models import MonthTable
from infra.sharding.months import Month

logger = logging.getLogger(__name__)

REFRESH_INTERVAL_S: Final = 5.0
MISS_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class MadeTable:
    """A monthly table that exists on a shard: its partitions and its schema version."""

    table: str
    month: Month
    partitions: int
    schema_version: int

    @property
    def name(self) -> str:
        """The physical table's name."""
        return f"{self.table}_{self.month.suffix}"


def made_tables(alias: str) -> list[MadeTable]:
    """Read the register of a shard: all monthly tables made there, by month and name."""
    rows = (
        MonthTable.objects.using(alias)
        .order_by("month", "logical_table")
        .values_list("logical_table", "month", "partitions", "schema_version")
    )
    return [MadeTable(table, Month.from_number(month), parts, version) for table, month, parts, version in rows]


def existing_months(alias: str) -> list[Month]:
    """Read which months have tables on a shard, oldest first."""
    months = MonthTable.objects.using(alias).order_by("month").values_list("month", flat=True).distinct()
    return [Month.from_number(number) for number in months]


class MonthRegister:
    """What this process remembers of the shards' registers; read again every few seconds and on a miss."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[tuple[str, Month], MadeTable]] = {}
        self._read_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def find(self, alias: str, table: str, month: Month) -> MadeTable | None:
        """Return a made table, or None; a miss reads the register again, at most once a second.

        None is no proof: the table may have been made within that second.
        """
        found = self._tables.get(alias, {}).get((table, month))
        if found is None and (self._may_read(alias) or alias not in self._tables):
            self.read(alias)
            _refreshing.start_on_use()
            found = self._tables[alias].get((table, month))
        return found

    def oldest(self, alias: str, table: str) -> Month | None:
        """Return the first month for which the table was made, as far as this process remembers."""
        return min((month for name, month in self._tables.get(alias, {}) if name == table), default=None)

    def read(self, alias: str) -> None:
        """Read one shard's register. Raises DatabaseError."""
        self._tables[alias] = {(made.table, made.month): made for made in made_tables(alias)}

    def refresh(self) -> None:
        """Read again the registers that are in use. A shard that is down keeps what is remembered of it."""
        for alias in tuple(self._tables):
            try:
                self.read(alias)
            except (DatabaseError, DomainError):
                logger.warning("The register of months on %s cannot be read now", alias, exc_info=True)

    def forget(self) -> None:
        """Drop all that is remembered."""
        self._tables.clear()
        self._read_at.clear()

    def _may_read(self, alias: str) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._read_at.get(alias, -MISS_PAUSE_S) < MISS_PAUSE_S:
                return False
            self._read_at[alias] = now
            return True


month_register: Final = MonthRegister()
_refreshing: Final = Periodic("month-register", REFRESH_INTERVAL_S, month_register.refresh)
