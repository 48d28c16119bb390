"""The router: each model in its databases, migrations likewise, and no default for what names no place."""

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from infra.sharding.models import Fence, MonthTable, SlotOwner, Worker
from infra.sharding.router import PlacementRouter, UnplacedQuery

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

router = PlacementRouter()
ALL = tuple(settings.DATABASES)


def migrated_to(*args: object, **hints: object) -> list[str]:
    return [alias for alias in ALL if router.allow_migrate(alias, *args, **hints)]


def test_a_model_of_one_database_is_sent_there() -> None:
    assert SlotOwner.objects.all().db == "default"
    assert Worker.objects.count() > 0


def test_a_query_on_a_sharded_model_that_names_no_place_is_refused() -> None:
    for query in (Fence.objects.count, MonthTable.objects.first, lambda: Fence.objects.update(epoch=9)):
        with pytest.raises(UnplacedQuery):
            query()
    with pytest.raises(UnplacedQuery):
        Fence(slot=1, epoch=1, updated_at=None).save()


def test_an_instance_is_saved_where_it_came_from() -> None:
    fence = Fence.objects.using("shard_1").earliest("slot")
    fence.epoch = 5
    fence.save()
    assert Fence.objects.using("shard_1").get(slot=fence.slot).epoch == 5


def test_tables_are_made_where_their_models_live_and_nowhere_else() -> None:
    assert migrated_to("sharding", "fence") == list(settings.SHARD_ALIASES)
    assert migrated_to("sharding", "slotowner") == ["default"]
    assert migrated_to("contenttypes", "contenttype") == ["default"]


def test_statements_of_migrations_run_where_their_hints_say() -> None:
    assert migrated_to("sharding", databases=("shards",)) == list(settings.SHARD_ALIASES)
    assert migrated_to("sharding", databases=("inventory", "shards")) == ["inventory", *settings.SHARD_ALIASES]
    assert migrated_to("contenttypes") == ["default"]
    with pytest.raises(ImproperlyConfigured, match="hints"):
        router.allow_migrate("default", "sharding")


def test_a_model_that_is_unknown_is_told_not_put_into_default() -> None:
    with pytest.raises(LookupError):
        router.allow_migrate("default", "sharding", "nosuchmodel")
