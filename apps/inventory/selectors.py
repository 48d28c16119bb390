"""Reads of inventory."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db.models import F, Q

from apps.inventory import places, statements
from apps.inventory.models import Reservation, ReservationState, Stock
from apps.inventory.types import Hold, StockAlarm, StockLevel
from infra.sharding.slots import slot_of_user


def available(skus: Collection[str]) -> dict[str, int]:
    """Return how many units of each SKU can still be bought now; a SKU without stock row has 0."""
    units = dict.fromkeys(skus, 0)
    by_alias: dict[str, list[str]] = {}
    for sku in units:
        if sku.isascii() and not sku.endswith(" "):
            by_alias.setdefault(places.place_of_sku(sku), []).append(sku)
    for alias, there in by_alias.items():
        rows = Stock.objects.using(alias).filter(sku__in=there)
        for sku, on_hand, reserved, allotted in rows.values_list("sku", "on_hand", "reserved", "allotted"):
            units[sku] = on_hand - reserved - allotted
    return units


def stock_levels(alias: str, skus: Collection[str]) -> dict[str, StockLevel]:
    """Return what can be bought now of the SKUs in one database, with the versions of their rows, without any lock."""
    rows = Stock.objects.using(alias).filter(sku__in=sorted(skus))
    return {
        sku: StockLevel(on_hand - reserved - allotted, version)
        for sku, on_hand, reserved, allotted, version in rows.values_list(
            "sku", "on_hand", "reserved", "allotted", "version"
        )
    }


def find_hold(*, user_id: int, request_digest: bytes) -> list[Hold]:
    """Return what requests with this digest (method, path, key) of the user hold or held, oldest first."""
    holds: list[Hold] = []
    for alias in places.inventory_aliases():
        rows = Reservation.objects.using(alias).filter(
            slot=slot_of_user(user_id),  # an order's slot is its user's: one partition is read
            user_id=user_id,
            request_digest=request_digest,
        )
        holds += _holds(rows)
    return sorted(holds, key=lambda hold: (hold.created_at, hold.order_id))


def holds_of(alias: str, order_ids: Iterable[int]) -> list[Hold]:
    """Return the reservations of the orders in one database, in whatever state."""
    ids = list(order_ids)
    if not ids:
        return []
    keys, parameters = statements.key_list(ids)
    rows = Reservation.objects.using(alias).extra(  # noqa: S610 - Django has no lookup for a list of pairs
        where=[f"(slot, order_id) IN (SELECT k.slot, k.order_id FROM {keys})"],  # noqa: S608
        params=parameters,
    )
    return _holds(rows)


def stale_holds(alias: str, *, before: datetime, limit: int, after: tuple[datetime, int] | None = None) -> list[Hold]:
    """Return holds made before a time that nobody has confirmed or closed, oldest first, at most `limit` orders.

    `after` is the (created_at, order_id) of the last hold of the page before.
    """
    rows = Reservation.objects.using(alias).filter(state=ReservationState.HELD, updated_at__lt=before)
    if after is not None:
        at, order_id = after
        rows = rows.filter(Q(updated_at__gt=at) | Q(updated_at=at, order_id__gt=order_id))
    oldest = rows.order_by("updated_at", "order_id").values_list("updated_at", "order_id").distinct()[:limit]
    holds = holds_of(alias, [order_id for _, order_id in oldest])
    return sorted(
        (hold for hold in holds if hold.state == ReservationState.HELD.label),
        key=lambda hold: (hold.created_at, hold.order_id),
    )


def _holds(rows: Iterable[Reservation]) -> list[Hold]:
    """Fold reservation rows into one hold an order."""
    by_order: dict[int, list[Reservation]] = {}
    for row in rows:
        by_order.setdefault(row.order_id, []).append(row)
    return [_hold(order_rows) for order_rows in by_order.values()]


def _hold(rows: Sequence[Reservation]) -> Hold:
    first = rows[0]
    return Hold(
        order_id=first.order_id,
        user_id=first.user_id,
        request_digest=bytes(first.request_digest),
        state=str(ReservationState(first.state).label),
        lines=tuple(sorted((row.sku, row.quantity) for row in rows)),
        created_at=first.created_at,
    )


def running_out(*, units: int, limit: int) -> list[StockAlarm]:
    """Return the SKUs of which no more than so many units can be bought, those with the least left first.

    Looks at every row of stock, of which there are as many as SKUs: for a page that keeps the answer for a while.
    """
    alarms: list[StockAlarm] = []
    for alias in places.inventory_aliases():
        rows = Stock.objects.using(alias).annotate(left=F("on_hand") - F("reserved") - F("allotted"))
        least = rows.filter(left__lte=units).order_by("left", "sku")[:limit]
        alarms += [
            StockAlarm(
                sku=row.sku, available=row.left, on_hand=row.on_hand, reserved=row.reserved, allotted=row.allotted
            )
            for row in least
        ]
    return sorted(alarms, key=lambda alarm: (alarm.available, alarm.sku))[:limit]
