"""What can go wrong on the way to a user's rows."""

from infra.errors import Code, DomainError
from infra.sharding.months import Month


class StaleMap(DomainError):
    """The slot is no longer where this process believed it to be; nothing was written, and the map is read again."""

    code = Code.SHARD_UNAVAILABLE
    title = "Database unavailable"


class SlotClosed(DomainError):
    """The slot takes no writes for now, because it is being moved; nothing was written."""

    code = Code.SHARD_UNAVAILABLE
    title = "Database unavailable"


class TopologyUnavailable(DomainError):
    """The slot map was never read in this process and cannot be read now."""

    code = Code.OVERLOADED
    title = "Overloaded"


class WorkerLeaseUnavailable(DomainError):
    """This process holds no worker number, so it can make no ids; nothing was taken."""

    code = Code.OVERLOADED
    title = "Overloaded"


class MissingMonth(Exception):
    """A month's tables are not there, though orders of that month can exist; the message names what mends it."""

    def __init__(self, month: Month, *, table: str, alias: str) -> None:
        super().__init__(
            f"{alias} has no table {table}_{month.suffix}. Make it with `manage.py create_months --month {month}`."
        )
        self.month = month


class MonthBehind(Exception):
    """A month's table lacks a column that this code writes; the message names what mends it."""

    def __init__(self, month: Month, *, table: str, alias: str) -> None:
        super().__init__(
            f"{alias}: {table}_{month.suffix} is behind its model. Bring it up with `manage.py migrate_months`."
        )
        self.month = month


class PlaceConflict(Exception):
    """A transaction on one slot was asked to write another slot; a mistake in the program (see `shard_atomic`)."""
