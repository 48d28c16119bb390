"""What may be set while the system runs: each setting is declared, with its bounds, where it is used.

A process reads `value`, a plain attribute, as often as it likes; `infra.dynamic.services` keeps it up to date.
"""

from typing import Final

MAX_VALUE_LENGTH: Final = 64
DEFINED: Final[dict[str, "DynamicInteger"]] = {}


class DynamicInteger:
    """A whole number within bounds. `value` is what holds now in this process: the staff's, or else the default."""

    __slots__ = ("default", "maximum", "meaning", "minimum", "name", "value")

    def __init__(self, name: str, *, default: int, minimum: int, maximum: int, meaning: str) -> None:
        if name in DEFINED:
            raise ValueError(f"There is already a setting named {name!r}.")
        self.name = name
        self.default = self.value = default
        self.minimum = minimum
        self.maximum = maximum
        self.meaning = meaning
        DEFINED[name] = self

    def parse(self, text: str) -> int:
        """Return the number; raises ValueError, with what is allowed, for anything else."""
        digits = text.strip()
        if not digits.isascii() or not digits.isdecimal() or not self.minimum <= int(digits) <= self.maximum:
            raise ValueError(f"{self.name} takes a whole number from {self.minimum} to {self.maximum}.")
        return int(digits)
