from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

import infra.sharding.fields


def name_blocks(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Name the blocks that are in force; of several of the same buyer the first one stays, the others end."""
    rows = apps.get_model("promotions", "BuyerBlock").objects.using("promotions")
    seen = set()
    for block in rows.filter(lifted_at__isnull=True).order_by("id").iterator():
        whom = block.network or f"user {block.user_id}"
        key = f"{whom} in {'all' if block.sale_id is None else block.sale_id}"
        if key in seen:
            rows.filter(id=block.id).update(lifted_by=block.blocked_by, lifted_at=block.blocked_at)
        else:
            rows.filter(id=block.id).update(in_force=key)
            seen.add(key)


class Migration(migrations.Migration):
    # MySQL commits each statement that changes a table.
    atomic = False

    dependencies = [
        ("promotions", "0009_points"),
    ]

    operations = [
        migrations.AddField(
            model_name="buyerblock",
            name="in_force",
            field=infra.sharding.fields.AsciiField(max_length=90, null=True),
        ),
        migrations.RunPython(name_blocks, migrations.RunPython.noop, hints={"databases": ("promotions",)}),
        migrations.AlterField(
            model_name="buyerblock",
            name="in_force",
            field=infra.sharding.fields.AsciiField(max_length=90, null=True, unique=True),
        ),
    ]
