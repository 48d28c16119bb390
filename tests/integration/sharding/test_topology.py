"""The topology outlives the global server: requests read memory, refreshing is bounded."""

import time

import pytest
from django.db import OperationalError

from infra.sharding import topology as topology_module
from infra.sharding.errors import TopologyUnavailable
from infra.sharding.models import SlotMapVersion, SlotOwner
from infra.sharding.topology import Topology, load_slot_map

pytestmark = pytest.mark.django_db


@pytest.fixture
def known() -> Topology:
    known = Topology()
    known.slot_map()
    return known


@pytest.fixture
def dead_global_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError(2002, "Can't connect to the server")

    monkeypatch.setattr(topology_module, "load_version", refuse)
    monkeypatch.setattr(topology_module, "load_slot_map", refuse)


def test_a_known_map_goes_on_while_the_global_server_is_dead(known: Topology, dead_global_server: None) -> None:
    with pytest.raises(OperationalError):
        known.refresh()
    known.refresh_stale()
    assert [known.owner(slot).alias for slot in (0, 1023)] == ["shard_0", "shard_1"]


def test_a_process_that_never_read_the_map_says_so(dead_global_server: None) -> None:
    with pytest.raises(TopologyUnavailable):
        Topology().slot_map()


def test_a_hanging_global_server_delays_a_stale_write_by_a_second_at_most_and_only_once(
    known: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology_module, "load_version", lambda: time.sleep(3))
    started_at = time.monotonic()
    known.refresh_stale()
    known.refresh_stale()
    assert 0.9 < time.monotonic() - started_at < 1.6


def test_a_changed_map_is_taken_over_and_an_unchanged_one_is_not_read(
    known: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known.slot_map()
    known.refresh()
    assert known.slot_map() is before
    SlotOwner.objects.filter(slot=0).update(shard=1, epoch=2)
    SlotMapVersion.objects.update(version=2)
    known.refresh()
    assert (known.slot_map().version, known.owner(0).alias, known.owner(0).epoch) == (2, "shard_1", 2)


def test_a_map_with_a_hole_is_refused() -> None:
    SlotOwner.objects.filter(slot=17).delete()
    with pytest.raises(TopologyUnavailable):
        load_slot_map()
