"""What can be shipped, what track events mean in whatever order they come, and how far an order has come."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.orders.domain import FulfillmentStatus
from apps.orders.fulfillment import (
    TRACKED,
    LineShare,
    LineUnits,
    ShipmentStatus,
    TooManyUnits,
    TrackPoint,
    allocate,
    fulfillment_after,
    parse_shipment_id,
    shipment_id,
    status_after_track,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PREPARED, HANDED_OVER, IN_TRANSIT = ShipmentStatus.PREPARED, ShipmentStatus.HANDED_OVER, ShipmentStatus.IN_TRANSIT
DELIVERED, EXCEPTION, CANCELLED = ShipmentStatus.DELIVERED, ShipmentStatus.EXCEPTION, ShipmentStatus.CANCELLED
NONE, PARTIAL, SHIPPED = FulfillmentStatus.NONE, FulfillmentStatus.PARTIAL, FulfillmentStatus.SHIPPED
ARRIVED, RETURNED = FulfillmentStatus.DELIVERED, FulfillmentStatus.RETURNED


def points(*told):
    return [TrackPoint(NOON + timedelta(hours=hour), status) for hour, status in told]


@pytest.mark.parametrize(
    ("known", "told", "expected"),
    [
        (PREPARED, [], PREPARED),
        (PREPARED, [(0, HANDED_OVER)], HANDED_OVER),
        (HANDED_OVER, [(0, HANDED_OVER), (1, IN_TRANSIT)], IN_TRANSIT),
        (IN_TRANSIT, [(2, IN_TRANSIT), (1, HANDED_OVER)], IN_TRANSIT),
        (IN_TRANSIT, [(1, IN_TRANSIT), (2, EXCEPTION)], EXCEPTION),
        (EXCEPTION, [(2, EXCEPTION), (3, IN_TRANSIT)], IN_TRANSIT),
        (IN_TRANSIT, [(1, IN_TRANSIT), (1, HANDED_OVER)], IN_TRANSIT),
        (IN_TRANSIT, [(5, EXCEPTION), (4, DELIVERED)], DELIVERED),
        (DELIVERED, [(9, EXCEPTION)], DELIVERED),
        (CANCELLED, [(1, DELIVERED)], CANCELLED),
    ],
)
def test_where_a_shipment_is_follows_from_all_that_was_told(known, told, expected):
    assert status_after_track(known, points(*told)) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(TRACKED))), min_size=1, max_size=4))
def test_the_order_in_which_events_come_does_not_matter(told):
    reached = set()
    for order in permutations(points(*told)):
        status, seen = PREPARED, []
        for point in order:
            seen.append(point)
            status = status_after_track(status, [*seen, point])  # and each comes twice
        reached.add(status)
    assert len(reached) == 1


@pytest.mark.parametrize(
    ("units", "left"),
    [
        (LineUnits(1, "A", 3), 3),
        (LineUnits(1, "A", 3, shipped=2), 1),
        (LineUnits(1, "A", 3, withdrawn=1, shipped=2), 0),
        (LineUnits(1, "A", 3, withdrawn=3, shipped=2), 0),
        (LineUnits(1, "A", 3, withdrawn=1, shipped=3, returned=1), 0),
        (LineUnits(1, "A", 3, shipped=3, returned=1), 1),
    ],
)
def test_what_is_left_to_ship_is_what_the_buyer_has_paid_for_and_not_got(units, left):
    assert units.to_ship == left


@pytest.mark.parametrize(
    ("known", "units", "shipments", "expected"),
    [
        (NONE, [LineUnits(1, "A", 2)], [], NONE),
        (PARTIAL, [LineUnits(1, "A", 2)], [], PARTIAL),
        (PARTIAL, [LineUnits(1, "A", 2)], [CANCELLED], PARTIAL),
        (NONE, [LineUnits(1, "A", 2, shipped=2)], [PREPARED], PARTIAL),
        (PARTIAL, [LineUnits(1, "A", 2, shipped=1)], [DELIVERED], PARTIAL),
        (PARTIAL, [LineUnits(1, "A", 2, shipped=2)], [DELIVERED, PREPARED], PARTIAL),
        (PARTIAL, [LineUnits(1, "A", 2, shipped=2)], [DELIVERED, IN_TRANSIT], SHIPPED),
        (PARTIAL, [LineUnits(1, "A", 2, shipped=1, withdrawn=1)], [HANDED_OVER], SHIPPED),
        (SHIPPED, [LineUnits(1, "A", 2, shipped=2)], [DELIVERED, DELIVERED], ARRIVED),
        (SHIPPED, [LineUnits(1, "A", 2, shipped=2)], [DELIVERED, CANCELLED], ARRIVED),
        (ARRIVED, [LineUnits(1, "A", 2, shipped=2, returned=1, withdrawn=1)], [DELIVERED], ARRIVED),
        (ARRIVED, [LineUnits(1, "A", 2, shipped=2, returned=2, withdrawn=2)], [DELIVERED], RETURNED),
        (ARRIVED, [LineUnits(1, "A", 2, shipped=2, returned=1)], [DELIVERED, PREPARED], ARRIVED),
        (SHIPPED, [LineUnits(1, "A", 2, shipped=1)], [DELIVERED], ARRIVED),
    ],
)
def test_how_far_an_order_has_come(known, units, shipments, expected):
    assert fulfillment_after(known, units, shipments) == expected


def test_quantities_of_skus_are_taken_from_their_lines():
    lines = [LineShare(1, "A", 2), LineShare(2, "B", 1), LineShare(3, "A", 4)]
    assert allocate({"A": 3}, lines) == [LineShare(1, "A", 2), LineShare(3, "A", 1)]
    with pytest.raises(TooManyUnits) as refusal:
        allocate({"A": 7, "B": 1, "C": 1}, lines)
    assert refusal.value.available == {"A": 6, "C": 0}


def test_a_shipments_id_leads_to_its_order():
    assert parse_shipment_id(shipment_id(2**63 - 1, 12)) == (2**63 - 1, 12)
    for text in ("", "shp_1", "shp_0_1", "shp_1_0", "ret_1_1", f"shp_{2**63}_1", "shp_1_1\n", "shp_1_12345"):
        assert parse_shipment_id(text) is None
