"""`manage.py locate`: tell where the rows of a user or an order are."""

import re
from typing import Any, Final

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from infra.sharding.errors import MissingMonth
from infra.sharding.ids import MAX_ID, parse, time_of
from infra.sharding.models import ShardedModel
from infra.sharding.month_register import month_register
from infra.sharding.monthly import monthly_models
from infra.sharding.months import Month
from infra.sharding.places import Place, place_of_order, place_of_user

# An order's id, a user's id, or a reference that holds an order's id (pay_123_1).
_REFERENCE: Final = re.compile(r"(?:[a-z]+_)?(\d{1,19})(?:_\d+)?")


class Command(BaseCommand):
    """Shows an id taken apart, its place as a user and as an order, and the rows found there."""

    help = "Tell the slot, shard, month, tables and rows of a user or an order."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the id."""
        parser.add_argument("id", help="id of a user or an order, or a reference that holds an order's id")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the places; an id alone does not say which of the two it is, so both are looked up."""
        match = _REFERENCE.fullmatch(options["id"])
        if match is None or not 0 < int(match[1]) <= MAX_ID:
            raise CommandError(f"{options['id']!r} is not an id.")
        number = int(match[1])
        parts = parse(number)
        self.stdout.write(
            f"{number}: made at {time_of(number).isoformat()}, worker {parts.worker}, sequence {parts.sequence}"
        )
        self._show_order(number)
        self._show_user(number)

    def _show_order(self, order_id: int) -> None:
        place, month = place_of_order(order_id), Month.of_id(order_id)
        self.stdout.write(f"as an order: slot {place.slot}, {place.alias}, month {month}")
        for logical in monthly_models():
            key = "order_id" if any(field.name == "order_id" for field in logical._meta.fields) else "id"
            made = month_register.find(place.alias, logical.table, month)
            if made is None:
                self.stdout.write(f"  {logical.objects.table_for(month)}: no such table")
                continue
            try:
                count = logical.objects.for_order(order_id).filter(**{key: order_id}).count()
            except MissingMonth as error:
                raise CommandError(str(error)) from error
            partition = place.slot % made.partitions
            self.stdout.write(f"  {made.name}, partition p{partition} of {made.partitions}: {count} rows")

    def _show_user(self, user_id: int) -> None:
        place = place_of_user(user_id)
        self.stdout.write(f"as a user: slot {place.slot}, {place.alias}")
        for model in apps.get_models():
            if issubclass(model, ShardedModel) and any(field.name == "user_id" for field in model._meta.fields):
                self.stdout.write(f"  {model._meta.db_table}: {self._count(model, place, user_id)} rows")

    def _count(self, model: type[ShardedModel], place: Place, user_id: int) -> int:
        rows: QuerySet[Any] = model.objects.at(place)
        return rows.filter(user_id=user_id).count()
