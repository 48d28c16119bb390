"""What a transaction says happened, before it has an id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NO_USER: Final = 0
"""The user of an event that is nobody's, such as a sale's: its slot is the hash of the aggregate's id."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """A fact about one aggregate, to be committed with the change that it tells.

    `version` is the aggregate's version after the change: it grows by exactly one an event, so that a checker can prove
    that none is missing. `payload` holds JSON values and no personal data beyond city and country. `headers` ties the
    event to the request that caused it; empty means the one being served where it is appended. `user_id` is NO_USER for
    an aggregate that is no user's.
    """

    type: str
    aggregate: str
    aggregate_id: int
    version: int
    user_id: int
    order_id: int | None = None
    payload: Mapping[str, object] = field(default_factory=dict)
    schema_version: int = 1
    headers: str = ""
