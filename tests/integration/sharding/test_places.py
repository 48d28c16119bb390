"""Places: a write with a stale map or on a closed slot fails and leaves nothing behind."""

import threading
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import OperationalError, connections, transaction

from infra.sharding import topology as topology_module
from infra.sharding.errors import PlaceConflict, SlotClosed, StaleMap
from infra.sharding.models import Fence, SlotMapVersion, SlotOwner
from infra.sharding.places import Place, place_of_slot, place_of_user, shard_aliases, shard_atomic
from infra.sharding.slots import SLOT_COUNT
from infra.sharding.topology import topology
from tests.factories.sharding import Parcel, order_id
from tests.integration.sharding.conftest import THIS_MONTH

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

SLOT_OF_SHARD = {"shard_0": 3, "shard_1": 900}


@pytest.fixture(autouse=True)
def _parcels(parcels: None) -> None:
    pass


@pytest.fixture(params=["shard_0", "shard_1"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_of_slot(SLOT_OF_SHARD[request.param])


def write_parcel(place: Place, number: int = 0) -> None:
    parcel = Parcel.objects.model_for(THIS_MONTH)
    parcel(slot=place.slot, id=order_id(slot=place.slot, at=THIS_MONTH.starts_at, number=number)).save(
        using=place.alias, force_insert=True
    )


def parcel_count(place: Place) -> int:
    return Parcel.objects.at(place, THIS_MONTH).count()


def test_every_slot_is_on_the_shard_that_the_map_says_and_has_its_fence_there() -> None:
    for alias in shard_aliases():
        owned = topology.slot_map().slots_of(alias)
        assert len(owned) == SLOT_COUNT // len(shard_aliases())
        assert set(Fence.objects.using(alias).values_list("slot", flat=True)) == set(owned)


def test_a_write_under_its_fence_is_kept(place: Place) -> None:
    with place.atomic():
        write_parcel(place)
    assert parcel_count(place) == 1


def test_a_write_with_a_stale_map_fails_and_writes_nothing(place: Place) -> None:
    # given a slot that has been moved away and back since this process read the map
    Fence.objects.using(place.alias).filter(slot=place.slot).update(epoch=place.epoch + 2)
    # when
    with pytest.raises(StaleMap), place.atomic():
        write_parcel(place)
    # then
    assert parcel_count(place) == 0


def test_a_write_to_a_shard_that_no_longer_has_the_slot_fails_and_writes_nothing(place: Place) -> None:
    Fence.objects.using(place.alias).filter(slot=place.slot).delete()
    with pytest.raises(StaleMap), place.atomic():
        write_parcel(place)
    assert parcel_count(place) == 0


def test_a_write_to_a_closed_slot_fails_and_writes_nothing(place: Place) -> None:
    Fence.objects.using(place.alias).filter(slot=place.slot).update(writable=False)
    with pytest.raises(SlotClosed), place.atomic():
        write_parcel(place)
    assert parcel_count(place) == 0


def test_without_the_fence_the_same_stale_write_would_be_kept(place: Place) -> None:
    Fence.objects.using(place.alias).filter(slot=place.slot).update(epoch=place.epoch + 2, writable=False)
    with transaction.atomic(using=place.alias):
        write_parcel(place)
    assert parcel_count(place) == 1


def test_after_a_stale_write_the_next_place_comes_from_the_new_map(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a map that has moved on. (The refresh has a connection of its own in production; a test's uncommitted
    # change is only seen on the test's.)
    monkeypatch.setattr(topology_module, "call_apart", lambda fn, timeout_s: fn())
    monkeypatch.setattr(topology, "_may_refresh_at", 0.0)
    SlotOwner.objects.filter(slot=place.slot).update(epoch=place.epoch + 2)
    SlotMapVersion.objects.update(version=2)
    Fence.objects.using(place.alias).filter(slot=place.slot).update(epoch=place.epoch + 2)
    try:
        # when
        with pytest.raises(StaleMap), place.atomic():
            write_parcel(place)
        # then
        fresh = place_of_slot(place.slot)
        assert fresh.epoch == place.epoch + 2
        with fresh.atomic():
            write_parcel(fresh)
        assert parcel_count(fresh) == 1
    finally:
        topology.forget()


def test_the_same_place_may_be_opened_within_itself(place: Place) -> None:
    with place.atomic():
        write_parcel(place, 1)
        with place.atomic():
            write_parcel(place, 2)
    assert parcel_count(place) == 2


def test_a_failure_in_the_inner_block_undoes_the_outer_one_even_if_it_is_swallowed(place: Place) -> None:
    def fail_inside() -> None:
        with place.atomic():
            write_parcel(place, 2)
            raise RuntimeError("inner")

    with place.atomic():
        write_parcel(place, 1)
        with pytest.raises(RuntimeError, match="inner"):
            fail_inside()
    assert parcel_count(place) == 0


def test_another_slot_cannot_be_opened_inside_a_place(place: Place) -> None:
    other = place_of_slot(place.slot + 1)
    assert other.alias == place.alias
    with pytest.raises(PlaceConflict), place.atomic(), other.atomic():
        write_parcel(other)
    assert parcel_count(other) == 0


def test_places_of_two_shards_are_two_transactions() -> None:
    one, other = (place_of_slot(slot) for slot in SLOT_OF_SHARD.values())

    def fail_on_the_other() -> None:
        with other.atomic():
            write_parcel(other)
            raise RuntimeError("fails alone")

    with one.atomic():
        write_parcel(one)
        with pytest.raises(RuntimeError, match="fails alone"):
            fail_on_the_other()
    assert (parcel_count(one), parcel_count(other)) == (1, 0)


def test_a_batch_over_several_slots_reads_all_their_fences() -> None:
    places = [place_of_slot(slot) for slot in (3, 5, 8)]
    with shard_atomic("shard_0", [place.slot for place in places]):
        for place in places:
            write_parcel(place)
            with place.atomic():
                write_parcel(place, 1)
    assert [parcel_count(place) for place in places] == [2, 2, 2]

    Fence.objects.using("shard_0").filter(slot=5).update(writable=False)
    with pytest.raises(SlotClosed), shard_atomic("shard_0", [3, 5, 8]):
        write_parcel(places[0], 2)
    assert parcel_count(places[0]) == 2


def test_a_batch_is_refused_slots_of_another_shard() -> None:
    with pytest.raises(StaleMap), shard_atomic("shard_0", [3, 900]):
        pytest.fail("opened a transaction for a slot that lives elsewhere")


def test_a_place_does_not_hide_inside_a_transaction_that_read_no_fence(place: Place, committed: None) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=place.alias), place.atomic():
        pytest.fail("joined a foreign transaction")


def test_users_are_placed_by_their_own_slot_and_orders_by_the_slot_in_the_id() -> None:
    assert place_of_user(1023).slot == 448
    assert place_of_slot(448).alias == "shard_0"


@pytest.fixture
def slot_to_close(committed: None) -> Iterator[int]:
    yield 7
    Fence.objects.using("shard_0").filter(slot=7).update(writable=True)


def close(slot: int) -> None:
    with transaction.atomic(using="shard_0"), connections["shard_0"].cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
        Fence.objects.using("shard_0").filter(slot=slot).update(writable=False)


def test_closing_a_slot_waits_for_the_writers_that_have_read_its_fence(slot_to_close: int) -> None:
    # given a writer inside its transaction
    place = place_of_slot(slot_to_close)
    inside, leave = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def write() -> None:
        with place.atomic():
            inside.set()
            leave.wait(10)
            outcomes.append("wrote")
        connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(10)
    # when the slot is closed meanwhile
    with pytest.raises(OperationalError):
        close(slot_to_close)
    # then it has to wait; afterwards it can, and later writers are refused
    leave.set()
    writer.join(10)
    assert outcomes == ["wrote"]
    close(slot_to_close)
    with pytest.raises(SlotClosed), place.atomic():
        pytest.fail("wrote to a closed slot")
