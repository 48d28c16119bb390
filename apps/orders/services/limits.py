"""What one shopper may have open at once."""

from datetime import datetime

from django.conf import settings

from apps.orders.selectors import count_open_unpaid_orders
from infra.errors import LimitReached


def check_open_unpaid_orders(*, user_id: int, added: int = 1, now: datetime) -> None:
    """Raise LimitReached when so many orders more would be more unpaid ones than the shopper may have.

    Exact only under the lock of the customer's row; without it, it spares a claim that would fail.
    """
    if count_open_unpaid_orders(user_id=user_id, now=now) + added > settings.ORDER_MAX_OPEN_UNPAID:
        raise LimitReached(f"At most {settings.ORDER_MAX_OPEN_UNPAID} orders may wait for their payment.")
