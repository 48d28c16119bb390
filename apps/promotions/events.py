"""Names and payloads of the events of flash sales, in the outbox of `promotions`."""

from collections.abc import Mapping
from typing import Final

from apps.promotions.domain import SaleState
from apps.promotions.models import FlashSale
from infra.outbox.types import NO_USER, EventDraft

AGGREGATE: Final = "sale"

MADE: Final = "made"
APPROVED: Final = "approved"
PUBLISHED: Final = "published"
STARTED: Final = "started"
PAUSED: Final = "paused"
RESUMED: Final = "resumed"
QUOTA_RAISED: Final = "quota_raised"
END_MOVED: Final = "end_moved"
CANCELLED: Final = "cancelled"
ENDED: Final = "ended"
CLOSED: Final = "closed"

_MOVES: Final[Mapping[SaleState, str]] = {
    SaleState.SCHEDULED: PUBLISHED,
    SaleState.RUNNING: STARTED,
    SaleState.PAUSED: PAUSED,
    SaleState.ENDED: ENDED,
    SaleState.CANCELLED: CANCELLED,
}


def kind_of_move(before: SaleState, after: SaleState) -> str:
    """Return what it is called when a sale goes from one state to another."""
    return RESUMED if before == SaleState.PAUSED and after != SaleState.CANCELLED else _MOVES[after]


def sale_event(kind: str, sale: FlashSale, *, units: Mapping[str, int] | None = None) -> EventDraft:
    """Return the domain event of one change of a sale, whose row has it already; `units` are new quotas by SKU."""
    payload: dict[str, object] = {
        "state": str(sale.state),
        "mode": str(sale.mode),
        "starts_at": sale.starts_at,
        "ends_at": sale.ends_at,
        "rehearsal": sale.rehearsal,
    }
    if units:
        payload["quotas"] = dict(units)
    return EventDraft(
        type=f"{AGGREGATE}.{kind}",
        aggregate=AGGREGATE,
        aggregate_id=sale.id,
        version=sale.version,
        user_id=NO_USER,
        payload=payload,
    )
