"""Every model says where it lives, and what lives on the shards can be sharded and partitioned."""

from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import models

from infra.sharding.models import ShardedModel
from infra.sharding.monthly import MonthlyModel, monthly_models
from infra.sharding.months import Month
from infra.sharding.operations import PartitionBySlot
from infra.sharding.placement import SHARDS, databases_of

OUR_MODELS = [model for model in apps.get_models() if model.__module__.split(".")[0] in ("apps", "infra")]
SHARDED = [model for model in OUR_MODELS if issubclass(model, ShardedModel)]
MONTHLY = monthly_models()
MARIADB_NAME_LENGTH = 64


def names(model: type[models.Model]) -> str:
    return model.__name__


def keys_of(model: type[models.Model]) -> list[tuple[str, ...]]:
    """The columns of each unique key, the primary one first."""
    primary = tuple(field.name for field in model._meta.pk_fields)
    unique = [
        tuple(constraint.fields)
        for constraint in model._meta.constraints
        if isinstance(constraint, models.UniqueConstraint)
    ]
    single = [(field.name,) for field in model._meta.local_fields if field.unique and not field.primary_key]
    return [primary, *unique, *single]


@pytest.mark.parametrize("model", OUR_MODELS, ids=names)
def test_a_model_names_databases_that_exist(model: type[models.Model]) -> None:
    assert set(databases_of(model)) <= {*settings.DATABASES, SHARDS}


@pytest.mark.parametrize("model", SHARDED, ids=names)
def test_every_unique_key_of_a_sharded_model_holds_the_slot(model: type[models.Model]) -> None:
    assert keys_of(model)[0][0] == "slot"
    assert all("slot" in key for key in keys_of(model))


@pytest.mark.parametrize("model", SHARDED, ids=names)
def test_a_sharded_table_is_partitioned_by_slot_in_its_migrations(model: type[models.Model]) -> None:
    folder = Path(apps.get_app_config(model._meta.app_label).path) / "migrations"
    operation = f'{PartitionBySlot.__name__}("{model._meta.db_table}"'
    assert any(operation in path.read_text().replace("\n", "").replace(" ", "") for path in folder.glob("*.py"))


@pytest.mark.parametrize("logical", MONTHLY, ids=names)
def test_a_monthly_model_can_be_partitioned_and_sized(logical: type[MonthlyModel]) -> None:
    concrete = logical.objects.model_for(Month(2026, 11))
    assert logical._meta.abstract
    assert logical.rows_per_order > 0
    assert keys_of(concrete)[0][0] == "slot"
    assert all("slot" in key for key in keys_of(concrete))
    assert keys_of(concrete)[0][1] in ("id", "order_id"), "the id that tells the month"
    assert not any(field.is_relation for field in concrete._meta.local_fields), "partitioned tables take no foreign key"


@pytest.mark.parametrize("logical", MONTHLY, ids=names)
def test_names_of_a_monthly_models_constraints_differ_by_month(logical: type[MonthlyModel]) -> None:
    """Oracle MySQL wants names of check constraints to be unique in the whole database."""
    november, december = (logical.objects.model_for(Month(2026, month)) for month in (11, 12))
    here, there = ({constraint.name for constraint in model._meta.constraints} for model in (november, december))
    assert not here & there
    assert all(len(name) <= MARIADB_NAME_LENGTH for name in here)
