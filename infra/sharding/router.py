"""The database router: the net below explicit places.

Models of one global database are sent there. A model that lives on the shards (or in several databases) must be
reached through a place; a query that names none raises instead of going to some default.
"""

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from infra.sharding.placement import HOME, SHARDS, databases_of, includes


class UnplacedQuery(Exception):
    """A query on a sharded model named no place; a mistake in the program."""


class PlacementRouter:
    """Routes by what each model declares (`infra.sharding.placement`)."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        """Return the only database of the model, or the one that its instance came from."""
        return self._only_database(model, **hints)

    def db_for_write(self, model: type[models.Model], **hints: Any) -> str:
        """Return the only database of the model, or the one that its instance came from."""
        return self._only_database(model, **hints)

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        """Tell whether an operation of a migration belongs to an alias."""
        databases: Sequence[str] | None = hints.get("databases")
        if databases is not None:
            return includes(databases, db)
        if model_name is not None:
            return includes(databases_of(apps.get_model(app_label, model_name)), db)
        if any(databases_of(model) != (HOME,) for model in apps.get_app_config(app_label).get_models()):
            raise ImproperlyConfigured(
                f"An operation without a model in a migration of {app_label!r} needs hints={{'databases': (...)}}."
            )
        return db == HOME

    def _only_database(self, model: type[models.Model], **hints: Any) -> str:
        databases = databases_of(model)
        if len(databases) == 1 and databases[0] != SHARDS:
            return databases[0]
        instance = hints.get("instance")
        if isinstance(instance, models.Model) and instance._state.db is not None:
            return instance._state.db
        raise UnplacedQuery(
            f"{model.__name__} lives in {databases}: reach it through for_user, for_order or on_shard, "
            "or name the alias with using=."
        )
