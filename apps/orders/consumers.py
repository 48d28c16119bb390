"""What orders do upon events: the stock of a paid or closed order moves at once, instead of at the next scan."""

from collections.abc import Sequence

from django.utils import timezone

from apps.orders.events import STOCK_EVENTS
from apps.orders.services.stock import sync_stock_of
from infra.events.consumers import subscribe
from infra.events.envelope import Envelope


def move_stock(envelopes: Sequence[Envelope]) -> None:
    """Bring the reservations of these orders in line with where the orders stand now.

    State-based, so a repeated or late event does no harm; the follow-up that came with the fact stays as the scan's.
    """
    order_ids = {envelope.order_id for envelope in envelopes if envelope.order_id is not None}
    sync_stock_of(order_ids, now=timezone.now())


subscribe("stock", STOCK_EVENTS, move_stock)
