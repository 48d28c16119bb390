"""Monthly models: one logical model, one concrete model and table a month, made on first use.

A logical model is an abstract subclass of `MonthlyModel` in an app's models.py; it names its `table` and how many
rows an order brings (`rows_per_order`). Its concrete classes subclass it, so `isinstance(row, Order)` holds; they are
out of sight of Django's migrations, in a registry of their own. Rows are reached through
`Order.objects`, which is no manager: it asks for the user, the order or the shard first.

Rows of months cannot be pickled, since no module holds their classes; ids travel instead.
"""

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, cast

from django.apps import apps
from django.apps.registry import Apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, models

from infra.sharding.errors import MissingMonth, MonthBehind
from infra.sharding.month_register import existing_months, month_register
from infra.sharding.months import Month
from infra.sharding.placement import SHARDS
from infra.sharding.places import Place, place_of_order, place_of_user
from infra.sharding.schema_changes import AddColumn, SchemaChange

__all__ = ["MissingMonth", "MonthlyModel", "existing_months", "monthly_models", "telling_month_errors"]

M = TypeVar("M", bound="MonthlyModel")
R = TypeVar("R")

NO_SUCH_TABLE: Final = 1146
UNKNOWN_COLUMN: Final = 1054

_MONTH_APPS: Final = Apps()
_LOGICAL_MODELS: Final[dict[str, type["MonthlyModel"]]] = {}


@contextmanager
def telling_month_errors(*, table: str, month: Month, alias: str) -> Iterator[None]:
    """Turn the server's word that a month's table or column is missing into MissingMonth or MonthBehind."""
    try:
        yield
    except DatabaseError as error:
        number = error.args[0] if error.args else None
        if number == NO_SUCH_TABLE:
            raise MissingMonth(month, table=table, alias=alias) from error
        if number == UNKNOWN_COLUMN:
            raise MonthBehind(month, table=table, alias=alias) from error
        raise


def _tells_month_errors(method: Callable[..., R]) -> Callable[..., R]:
    @functools.wraps(method)
    def telling(self: "MonthlyQuerySet[Any]", *args: Any, **kwargs: Any) -> R:
        # Django hands `using` to the inserts of `save` and `bulk_create`; elsewhere the queryset knows its alias.
        alias = kwargs.get("using") or self._db or "the shard"  # type: ignore[attr-defined]
        with telling_month_errors(table=self.model.table, month=self.model.month, alias=alias):
            return method(self, *args, **kwargs)

    return telling


class MonthlyQuerySet(models.QuerySet[M]):
    """Rows of one month's table; says MissingMonth where the server says that there is no such table."""

    _fetch_all = _tells_month_errors(models.QuerySet._fetch_all)
    _insert = _tells_month_errors(models.QuerySet._insert)  # type: ignore[attr-defined]
    _update = _tells_month_errors(models.QuerySet._update)  # type: ignore[attr-defined]
    _raw_delete = _tells_month_errors(models.QuerySet._raw_delete)
    update = _tells_month_errors(models.QuerySet.update)
    count = _tells_month_errors(models.QuerySet.count)
    exists = _tells_month_errors(models.QuerySet.exists)
    aggregate = _tells_month_errors(models.QuerySet.aggregate)


class MonthlyRows(Generic[M]):
    """The ways to a logical model's rows: each names the month and the place before it gives a queryset."""

    def __init__(self, logical: type[M]) -> None:
        self._logical = logical

    def for_order(self, order_id: int) -> MonthlyQuerySet[M]:
        """Return the rows in the order's slot and month. Not yet narrowed to the order.

        Empty for an id that can be no order's: of a month to come, or before the first that was made. A month in
        between that is missing raises MissingMonth when the rows are asked for.
        """
        return self.at(place_of_order(order_id), Month.of_id(order_id))

    def for_user(self, user_id: int, month: Month) -> MonthlyQuerySet[M]:
        """Return the rows in the user's slot and in a month. Not yet narrowed to the user."""
        return self.at(place_of_user(user_id), month)

    def at(self, place: Place, month: Month) -> MonthlyQuerySet[M]:
        """Return the rows of a place in a month."""
        return self.in_month(place.alias, month).filter(slot=place.slot)

    def in_month(self, alias: str, month: Month) -> MonthlyQuerySet[M]:
        """Return a whole shard's rows of a month: for fan-out, never for one user's request."""
        model = self.model_for(month, alias=alias)
        rows = cast(MonthlyQuerySet[M], model.rows.using(alias))
        return rows if self.can_exist(alias, month) else rows.none()

    def model_for(self, month: Month, *, alias: str | None = None) -> type[M]:
        """Return the concrete model of a month, to construct rows of.

        With an alias it has the columns that the table has there; without, those of this code.
        """
        version = len(self._logical.schema_changes)
        if alias is not None and version:
            made = month_register.find(alias, self._logical.table, month)
            version = min(made.schema_version, version) if made is not None else version
        return _concrete_model(self._logical, month, version)

    def table_for(self, month: Month) -> str:
        """Return the name of a month's table."""
        return f"{self._logical.table}_{month.suffix}"

    def can_exist(self, alias: str, month: Month) -> bool:
        """Whether a shard may have rows of a month: not of one to come, nor of one before the first that was made."""
        if month_register.find(alias, self._logical.table, month) is not None:
            return True
        oldest = month_register.oldest(alias, self._logical.table)
        return oldest is None or oldest <= month <= Month.of(datetime.now(UTC))


class _Rows:
    """Gives each logical model, and each of its concrete models, its `MonthlyRows`."""

    def __get__(self, instance: object, owner: type[M]) -> MonthlyRows[M]:
        return MonthlyRows(cast(type[M], owner.logical))


class MonthlyModel(models.Model):
    """Base of logical monthly models.

    A subclass sets `abstract = True` in its Meta and a primary key that begins with the slot:
    `pk = models.CompositePrimaryKey("slot", "id")`. Names of constraints hold `%(class)s`, since Oracle MySQL wants
    them unique over all tables; names of indexes need not.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)
    table: ClassVar[str]
    """The logical table, without the month: `orders_order`."""
    rows_per_order: ClassVar[float]
    """How many rows an order brings on average; sizes the partitions."""
    schema_changes: ClassVar[tuple[SchemaChange, ...]] = ()
    """What has changed since the first month was made, in order; its length is the schema version."""
    logical: ClassVar[type["MonthlyModel"]]
    month: ClassVar[Month]
    """The month of a concrete model."""

    slot = models.SmallIntegerField()

    rows = models.Manager.from_queryset(MonthlyQuerySet)()
    objects: ClassVar[Any] = _Rows()

    class Meta:
        abstract = True

    def __copy__(self) -> Self:
        """Return a row of its own with the same values; Django's way goes through pickling, which finds no class."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._state = copy.copy(self._state)
        return twin

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "table" not in cls.__dict__:
            return
        known = _LOGICAL_MODELS.setdefault(cls.table, cls)
        if known.__module__ != cls.__module__ or known.__qualname__ != cls.__qualname__:
            raise ImproperlyConfigured(f"{known!r} and {cls!r} both claim the monthly table {cls.table!r}.")
        _LOGICAL_MODELS[cls.table] = cls
        cls.logical = cls


def monthly_models() -> list[type[MonthlyModel]]:
    """Return the logical monthly models of the installed apps, by table."""
    return [
        model
        for _, model in sorted(_LOGICAL_MODELS.items())
        if apps.get_containing_app_config(model.__module__) is not None
    ]


def build_model(logical: type[M], *, name: str, db_table: str, registry: Apps, attributes: dict[str, Any]) -> type[M]:
    """Make a concrete class of a logical model, registered in `registry` only.

    Migrations never see it, since they look into Django's own registry. (It is not marked as unmanaged: the schema
    editor would then leave out its indexes.)
    """
    app_config = apps.get_containing_app_config(logical.__module__)
    meta = type(
        "Meta",
        (cast(Any, logical).Meta,),
        {
            "app_label": app_config.label if app_config else "sharding",
            "apps": registry,
            "base_manager_name": "rows",
            "db_table": db_table,
        },
    )
    return cast(type[M], type(name, (logical,), {"__module__": logical.__module__, "Meta": meta, **attributes}))


_concrete_models: Final[dict[tuple[str, Month, int], type[MonthlyModel]]] = {}
_building: Final = threading.Lock()


def _concrete_model(logical: type[M], month: Month, version: int) -> type[M]:
    key = (logical.table, month, version)
    model = _concrete_models.get(key)
    if model is None or not issubclass(model, logical):
        with _building:
            model = _concrete_models.get(key)
            if model is None or not issubclass(model, logical):
                model = _concrete_models[key] = _build_month(logical, month, version)
    return cast(type[M], model)


def _build_month(logical: type[M], month: Month, version: int) -> type[M]:
    """Make the class for a month's table at a schema version: columns that it lacks read as their defaults."""
    absent = {
        change.name: change.field.get_default()
        for change in logical.schema_changes[version:]
        if isinstance(change, AddColumn)
    }
    current = version == len(logical.schema_changes)
    return build_model(
        logical,
        name=f"{logical.__name__}{month.suffix}" + ("" if current else f"V{version}"),
        db_table=f"{logical.table}_{month.suffix}",
        registry=_MONTH_APPS,
        attributes={**absent, "month": month},
    )
