"""Months (UTC): the unit in which the bulk tables are made."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from infra.sharding.ids import first_id_at, time_of

_ISO_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month in UTC; sorts by time. Raises ValueError for a month that no calendar has."""

    year: int
    month: int

    def __post_init__(self) -> None:
        if not (1 <= self.month <= 12 and 1 <= self.year <= 9999):
            raise ValueError(f"{self.year}-{self.month} is not a month.")

    @classmethod
    def of(cls, at: datetime) -> Self:
        """Return the month of an aware datetime, whatever its zone."""
        if at.tzinfo is None:
            raise ValueError("A month belongs to an aware datetime.")
        in_utc = at.astimezone(UTC)
        return cls(in_utc.year, in_utc.month)

    @classmethod
    def of_id(cls, id: int) -> Self:  # noqa: A002 - the thing is called id
        """Return the month in which the id was issued: the month of every row that belongs to that order."""
        at = time_of(id)
        return cls(at.year, at.month)

    @classmethod
    def from_number(cls, number: int) -> Self:
        """Return the month written as a number, such as 202611."""
        return cls(*divmod(number, 100))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the month written as `2026-11`. Raises ValueError for anything else."""
        match = _ISO_MONTH.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a month; write it as 2026-11.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @property
    def number(self) -> int:
        """The month as a number, such as 202611."""
        return self.year * 100 + self.month

    @property
    def suffix(self) -> str:
        """The ending of this month's tables, such as `202611`."""
        return f"{self.year:04}{self.month:02}"

    @property
    def starts_at(self) -> datetime:
        """The first instant of the month."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        """The first instant after the month."""
        return self.next().starts_at

    @property
    def first_id(self) -> int:
        """The lower bound of the month's ids; the next month's is their upper bound (exclusive)."""
        return first_id_at(self.starts_at)

    def next(self) -> Self:
        """Return the month after this one."""
        return type(self)(self.year + 1, 1) if self.month == 12 else type(self)(self.year, self.month + 1)

    def previous(self) -> Self:
        """Return the month before this one."""
        return type(self)(self.year - 1, 12) if self.month == 1 else type(self)(self.year, self.month - 1)
