"""SQL literals, for the few statements that insert many rows at once.

There, handing over a parameter for each value costs several times what the server needs for the row. A statement made
of literals is executed without parameters. Integers are written as they are; all else goes through these functions,
whatever its source.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

# What mysql_real_escape_string() escapes, but for the double quote, which needs it only between double quotes, and of
# which a JSON document is full. Right for utf8mb4, in which no byte of a longer character is below 0x80, and
# for sessions without NO_BACKSLASH_ESCAPES (infra/mysql/options.py sets the mode of every connection).
_ESCAPES: Final = {
    "\0": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z", "\\": "\\\\", "'": "\\'",
}  # fmt: skip
_SPECIAL: Final = re.compile("[" + "".join(re.escape(character) for character in _ESCAPES) + "]")


def text(value: str) -> str:
    """Return a text as a literal."""
    if _SPECIAL.search(value) is not None:
        value = _SPECIAL.sub(lambda found: _ESCAPES[found.group()], value)
    return f"'{value}'"


@lru_cache(maxsize=32_768)
def word(value: str) -> str:
    """Return a text that comes again and again, such as a SKU or a currency, as a literal; remembered."""
    return text(value)


def binary(value: bytes) -> str:
    """Return bytes as a literal (a binary string, for VARBINARY columns)."""
    return f"x'{value.hex()}'"


def moment(at: datetime) -> str:
    """Return an aware time as a literal for a DATETIME column, in UTC to the microsecond."""
    return f"'{at.astimezone(UTC).isoformat(' ').removesuffix('+00:00')}'"
