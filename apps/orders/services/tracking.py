"""What carriers tell of shipments, and what is asked of them.

A track event is stored beside its effect in one transaction on the order's shard; where a shipment is follows from all
events that have come for it (`fulfillment.status_after_track`), so repeats and events out of order do no harm. A
carrier is called outside of any transaction, for a shipment that is committed, by a follow-up that comes again until
it is done.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.db import DatabaseError, IntegrityError
from django.db.models import QuerySet

from apps.orders import metrics
from apps.orders.carriers.base import Booking, ShipmentOrder, TrackNotice
from apps.orders.carriers.registry import find_carrier
from apps.orders.errors import CarrierRefused, CarrierUnavailable, ShipmentNotFound, TrackRepeated
from apps.orders.events import SHIPMENT_UPDATED
from apps.orders.fulfillment import ShipmentStatus, TrackPoint, parse_shipment_id, status_after_track
from apps.orders.models import Order, Track
from apps.orders.selectors import find_order
from apps.orders.services.changing import change_order
from apps.orders.services.shipping import BOOKING, existing_shipment, move_shipments, update_shipment
from apps.orders.services.transitions import advance
from apps.orders.shipment_selectors import get_shipment
from apps.orders.snapshots import order_view
from apps.orders.types import ShipmentView, SweepReport
from infra.errors import DomainError
from infra.followups.rounds import shard_round
from infra.followups.services import done, due, postpone, schedule
from infra.followups.types import FollowUp
from infra.mysql.retry import is_duplicate_key
from infra.sharding.months import Month
from infra.sharding.places import Place

_log = logging.getLogger(__name__)

BATCH_SIZE: Final = 200
_DEADLINE_S: Final = 20.0


def receive_track_event(*, carrier: str, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> bool:
    """Verify a carrier's event and commit it together with its effect; False for one that was stored before.

    Raises ShipmentNotFound (no such carrier, or no such shipment with it), SignatureInvalid, CallbackMalformed.
    Concurrency: of identical deliveries at once, one is applied.
    """
    client = find_carrier(carrier)
    if client is None:
        raise ShipmentNotFound("There is no such carrier.")
    notice = client.parse_callback(headers, raw_body, now=now)
    named = parse_shipment_id(notice.reference)
    if named is None or find_order(named[0]) is None:
        raise ShipmentNotFound("There is no shipment under this reference.")
    order_id, n = named
    if existing_shipment(order_id, n).carrier != carrier:
        raise ShipmentNotFound("There is no shipment under this reference.")
    return record_track(order_id=order_id, n=n, notice=notice, now=now)


def record_track(*, order_id: int, n: int, notice: TrackNotice, now: datetime) -> bool:
    """Store a track event, and move shipment and order by it; False for one that was stored before.

    Raises ShipmentNotFound. An event of a shipment that was taken apart is stored without effect, and the staff are
    told: something left that should not have.
    """
    try:
        before = change_order(order_id, lambda place, order: _apply(place, order, n, notice, now=now))
    except TrackRepeated:
        metrics.TRACK_EVENTS.labels(notice.carrier, "repeated").inc()
        return False
    metrics.TRACK_EVENTS.labels(notice.carrier, notice.status).inc()
    if before == ShipmentStatus.CANCELLED:
        _alert(notice.carrier, "cancelled_shipment_moves", notice.reference, f"told {notice.status}")
    return True


def book_due_shipments(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Bring the carriers in line with the shipments that are booked with them, on every shard; returns counts.

    Each is one call and at most one transaction. A carrier or shard that is down postpones its own work only; two
    sweeps at once do the same work twice, which changes nothing.
    """
    counts: Counter[str] = Counter()
    stop_at = time.monotonic() + _DEADLINE_S

    def sweep(alias: str) -> int:
        owed = due(alias, kind=BOOKING, now=now, limit=limit)
        for follow_up in owed:
            if time.monotonic() > stop_at:
                break
            try:
                counts[_bring_in_line(follow_up, now=now)] += 1
            except (DatabaseError, DomainError) as error:
                counts["postponed"] += 1
                _log.warning("booking of a shipment of order %s is postponed: %s", follow_up.order_id, error)
                _postpone(follow_up, error, now=now)
        return len(owed)

    shard_round("bookings of shipments", sweep)
    return SweepReport(dict(counts))


def _apply(place: Place, order: Order, n: int, notice: TrackNotice, *, now: datetime) -> ShipmentStatus:
    """Store an event with its effect; returns where the shipment was. Raises TrackRepeated, which undoes both."""
    shipment = existing_shipment(order.id, n)
    events = tracks_at(place, order.id, n)
    if event_was_seen(events, notice):
        raise TrackRepeated(notice.event_id)
    told = [TrackPoint(at, ShipmentStatus(status)) for at, status in events.values_list("at", "status")]
    status = status_after_track(shipment.status, [*told, TrackPoint(notice.at, notice.status)])
    detail = f"{shipment.shipment_id}: {notice.status}"
    move_shipments(place, order, {n: status}, actor=f"carrier:{notice.carrier}", detail=detail, now=now)
    row = Track.objects.model_for(Month.of_id(order.id), alias=place.alias)(
        slot=place.slot,
        order_id=order.id,
        n=n,
        event_id=notice.event_id,
        status=notice.status,
        place=notice.place,
        at=notice.at,
        received_at=now,
    )
    try:
        row.save(using=place.alias, force_insert=True)
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise TrackRepeated(notice.event_id) from error
        raise
    return shipment.status


def tracks_at(place: Place, order_id: int, n: int) -> QuerySet[Track]:
    """Return the rows of a shipment's track events, within a place that the caller has a transaction on."""
    rows: QuerySet[Track] = Track.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id, n=n)
    return rows


def event_was_seen(events: QuerySet[Track], notice: TrackNotice) -> bool:
    """Tell whether this event was stored before: a short cut, the primary key decides."""
    return events.filter(event_id=notice.event_id).exists()


def _bring_in_line(follow_up: FollowUp, *, now: datetime) -> str:
    """Book a shipment with its carrier, or call its booking off; returns what was done."""
    shipment = get_shipment(follow_up.order_id, follow_up.n)
    order = find_order(follow_up.order_id)
    client = None if shipment is None else find_carrier(shipment.carrier)
    if shipment is None or order is None:
        done(follow_up)
        return "gone"
    if client is None:
        raise CarrierUnavailable(f"SHIPPING_CARRIERS has no {shipment.carrier!r}, and there are shipments with it.")
    try:
        if shipment.status == ShipmentStatus.CANCELLED:
            client.cancel(shipment.shipment_id)
            outcome = "called off"
        elif shipment.number:
            outcome = "settled"
        else:
            address = order_view(order, ()).address
            booking = client.book(ShipmentOrder(shipment.shipment_id, address, shipment.items))
            _note_booking(shipment, booking, now=now)
            outcome = "booked"
    except CarrierRefused as error:
        _alert(shipment.carrier, "refused", shipment.shipment_id, str(error))
        outcome = "refused"
    done(follow_up)
    return outcome


def _note_booking(shipment: ShipmentView, booking: Booking, *, now: datetime) -> None:
    """Write the tracking number, unless the shipment has one; owe the end of a booking that is no longer wanted."""

    def change(place: Place, order: Order) -> None:
        known = existing_shipment(order.id, shipment.n)
        if known.status == ShipmentStatus.CANCELLED:
            schedule(place, kind=BOOKING, order_id=order.id, n=shipment.n, due_at=now, now=now)
        if known.number:
            return
        detail = f"{shipment.shipment_id} is booked with {shipment.carrier}"
        actor = f"carrier:{shipment.carrier}"
        advance(place, order, changes={}, kind=SHIPMENT_UPDATED, actor=actor, detail=detail, now=now)
        update_shipment(place, order.id, shipment.n, number=booking.number, updated_at=now)

    change_order(shipment.order_id, change)


def _postpone(follow_up: FollowUp, error: Exception, *, now: datetime) -> None:
    try:
        postpone(follow_up, now=now, error=type(error).__name__)
    except (DatabaseError, DomainError):
        _log.warning("%s cannot write", follow_up.alias, exc_info=True)  # it stays due


def _alert(carrier: str, kind: str, reference: str, detail: str) -> None:
    """Tell the staff, by log and metric, of what nobody but they can settle."""
    metrics.CARRIER_ALERTS.labels(carrier, kind).inc()
    _log.error("carrier alert: %s of %s at %s: %s", kind, reference, carrier, detail)
