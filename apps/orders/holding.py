"""What orders hold of a customer: told and asked by the users app (`apps.users.holdings`)."""

from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.conf import settings

from apps.orders.domain import OrderStatus
from apps.orders.events import ERASED
from apps.orders.models import Order, OrderKind
from apps.orders.selectors import list_orders
from apps.orders.services.notes import forget_staff_words
from apps.orders.services.transitions import advance_all
from apps.orders.types import OrderFilter, OrderView
from apps.users.holdings import DataPart, ErasureStep
from apps.users.selectors import order_months
from infra.sharding.month_register import month_register
from infra.sharding.monthly import MonthlyQuerySet
from infra.sharding.months import Month
from infra.sharding.places import Place, place_of_user

_ENDED: Final = (OrderStatus.COMPLETED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REFUNDED)
_BATCH_ROWS: Final = 200
_ORDERS_A_PART: Final = 50
# An order of an ended account that is still under way is looked at again after this long.
_LOOK_AGAIN_AFTER: Final = timedelta(days=1)
_ERASED_VALUES: Final = {"address": None, "note": "", "cancel_reason": ""}


class OrderHolding:
    """Orders: what is personal in them is address, note and reason of cancelling; the rest is the shop's books."""

    name = "orders"

    def is_under_way(self, user_id: int) -> bool:
        """Tell whether an order has yet to be paid, delivered or refunded. A query a month, at most."""
        place = place_of_user(user_id)
        return any(
            _orders(place, user_id, month).exclude(status__in=_ENDED).exists() for month in _months(place, user_id)
        )

    def erase(self, user_id: int, *, cursor: str, now: datetime) -> ErasureStep:
        """Erase what is personal in a batch of orders of a month; the cursor is `<month>:<id of the last>`.

        A month's turn comes when its last order has been kept as long as the law wants (ORDER_ADDRESS_KEPT_DAYS). The
        orders are taken as they were placed; one that is still under way is waited for.
        """
        place = place_of_user(user_id)
        number, _, after = cursor.partition(":")
        months = [month for month in _months(place, user_id) if month.number >= int(number or 0)]
        if not months:
            return ErasureStep("")
        month, after_id = months[0], int(after or 0)
        allowed_at = month.ends_at + timedelta(days=settings.ORDER_ADDRESS_KEPT_DAYS)
        if settings.ORDER_ADDRESS_KEPT_DAYS and now < allowed_at:
            return ErasureStep(f"{month.number}:{after_id}", not_before=allowed_at)
        rows = list(_orders(place, user_id, month).filter(id__gt=after_id).order_by("id")[:_BATCH_ROWS])
        ended = []
        for order in rows:
            if order.status not in _ENDED:
                break
            ended.append(order)
        personal = [order for order in ended if order.address is not None or order.note or order.cancel_reason]
        if personal:
            with place.atomic():
                advance_all(
                    place.alias,
                    personal,
                    changes=_ERASED_VALUES,
                    kind=ERASED,
                    actor="system",
                    detail="the account was deleted",
                    now=now,
                )
        forget_staff_words(place, [order.id for order in ended])
        if len(ended) < len(rows):
            last_id = ended[-1].id if ended else after_id
            return ErasureStep(f"{month.number}:{last_id}", not_before=now + _LOOK_AGAIN_AFTER)
        if len(rows) == _BATCH_ROWS:
            return ErasureStep(f"{month.number}:{rows[-1].id}")
        return ErasureStep(f"{months[1].number}:0" if len(months) > 1 else "")

    def read(self, user_id: int, *, cursor: str) -> DataPart:
        """Return the next orders, newest first; the cursor is the id of the last."""
        before_id = int(cursor) if cursor else None
        page = list_orders(user_id=user_id, narrowed=OrderFilter(), limit=_ORDERS_A_PART, before_id=before_id)
        return DataPart([_order(order) for order in page.rows], str(page.next_key[0]) if page.next_key else "")


def _order(order: OrderView) -> dict[str, object]:
    values: dict[str, object] = msgspec.to_builtins(order)
    return {**values, "id": str(order.id), "user_id": str(order.user_id)}


def _months(place: Place, user_id: int) -> list[Month]:
    """Return the months, ascending, that may hold orders of the customer."""
    noted = order_months(user_id)
    if noted is None:
        return []
    months, month = [], Month.from_number(noted[0])
    while month <= Month.from_number(noted[1]):
        if month_register.find(place.alias, Order.table, month) is not None:
            months.append(month)
        month = month.next()
    return months


def _orders(place: Place, user_id: int, month: Month) -> MonthlyQuerySet[Order]:
    return Order.objects.at(place, month).filter(user_id=user_id, kind=OrderKind.REAL)
