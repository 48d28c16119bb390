"""Gives `promotions` its outbox where the first migration ran before that database had one."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make_missing_tables(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Make the tables, unless the first migration has."""
    there = schema_editor.connection.introspection.table_names()
    for name in ("OutboxEvent", "Relay"):
        model = apps.get_model("outbox", name)
        if model._meta.db_table not in there:
            schema_editor.create_model(model)


class Migration(migrations.Migration):
    dependencies = [
        ("outbox", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(
            make_missing_tables,
            migrations.RunPython.noop,
            atomic=False,  # DDL, which these servers do not roll back
            hints={"databases": ("promotions",)},
            elidable=True,
        ),
    ]
