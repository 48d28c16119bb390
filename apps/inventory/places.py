"""Where the stock of a SKU lives; no statement assumes that two SKUs share a database."""

from typing import Final

_ALIASES: Final = ("inventory",)


def place_of_sku(sku: str) -> str:
    """Return the alias of the database that holds the SKU's stock, reservations and movements."""
    return _ALIASES[0]


def inventory_aliases() -> tuple[str, ...]:
    """Return all aliases that hold stock."""
    return _ALIASES
