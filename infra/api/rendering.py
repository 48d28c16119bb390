"""How values are written in answers."""

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """Return a time in UTC, ending in `Z`."""
    return at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
