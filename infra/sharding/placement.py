"""Which databases a model lives in.

A model says so itself: `databases: ClassVar[tuple[str, ...]] = (SHARDS,)` or `("inventory",)`; without a word it
lives in `default`. Migration operations without a model say the same in `hints={"databases": (SHARDS,)}`.
"""

from collections.abc import Sequence
from typing import Final

from django.conf import settings
from django.db import models

SHARDS: Final = "shards"
"""Stands for every shard's alias."""

HOME: Final = "default"


def shard_aliases() -> tuple[str, ...]:
    """Return the aliases of all shards; a shard's number is its place in this tuple."""
    return tuple(settings.SHARD_ALIASES)


def databases_of(model: type[models.Model]) -> tuple[str, ...]:
    """Return what the model declares: aliases, or SHARDS for all shards."""
    declared: tuple[str, ...] = getattr(model, "databases", (HOME,))
    return declared


def includes(databases: Sequence[str], alias: str) -> bool:
    """Tell whether an alias is among declared databases."""
    return alias in databases or (SHARDS in databases and alias in shard_aliases())
