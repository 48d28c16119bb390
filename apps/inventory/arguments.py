"""Arguments that the commands of inventory share."""

import argparse

from apps.inventory.services import MAX_UNITS


def units(text: str) -> int:
    """Return the units that an argument writes; argparse tells the error."""
    if text.isascii() and text.isdigit() and int(text) <= MAX_UNITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MAX_UNITS}")
