"""The commands of the topology."""

import io

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from infra.sharding.bootstrap import seed_topology
from infra.sharding.models import Fence, SlotMapVersion, Worker
from infra.sharding.topology import load_slot_map
from tests.factories.sharding import order_id

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_shard_map_shows_which_shard_owns_which_slots() -> None:
    shown = run("shard_map")
    assert "shard_0: 512 slots: 0-511" in shown
    assert "shard_1: 512 slots: 512-1023" in shown


def test_shard_map_shows_closed_slots() -> None:
    Fence.objects.using("shard_0").filter(slot__in=(7, 8, 9, 20)).update(writable=False)
    assert "closed: 7-9, 20;" in run("shard_map")


def test_shard_map_fails_when_fences_and_map_disagree() -> None:
    Fence.objects.using("shard_1").filter(slot=600).update(epoch=7)
    with pytest.raises(CommandError, match="disagree on shard_1"):
        run("shard_map")


@pytest.mark.parametrize("text", ["{id}", "pay_{id}_1", "re_{id}_12"])
def test_locate_tells_the_place_of_an_order_by_its_id_or_a_reference(text: str) -> None:
    number = order_id(slot=700)
    shown = run("locate", text.format(id=number))
    assert "as an order: slot 700, shard_1, month 2026-11" in shown
    assert "as a user: slot " in shown


@pytest.mark.parametrize("text", ["", "abc", "0", str(2**63), "1 2"])
def test_locate_refuses_what_is_no_id(text: str) -> None:
    with pytest.raises(CommandError, match="is not an id"):
        run("locate", text)


def test_seeding_again_changes_nothing() -> None:
    Fence.objects.using("shard_0").filter(slot=3).update(writable=False)
    before = (load_slot_map(), Worker.objects.count(), Fence.objects.using("shard_0").count())
    seed_topology()
    assert (load_slot_map(), Worker.objects.count(), Fence.objects.using("shard_0").count()) == before
    assert not Fence.objects.using("shard_0").get(slot=3).writable
    assert SlotMapVersion.objects.get().version == 1


def test_seeding_adds_only_what_is_missing() -> None:
    Fence.objects.using("shard_1").filter(slot__gte=1000).delete()
    Worker.objects.filter(number__gte=500).delete()
    seed_topology()
    assert Fence.objects.using("shard_1").count() == 512
    assert Worker.objects.count() == 1023
