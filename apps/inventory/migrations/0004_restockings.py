"""Units that come back into stock for a reason of their own."""

import django.db.models.fields.composite
from django.db import migrations, models

import infra.sharding.fields


class Migration(migrations.Migration):
    dependencies = [
        ("inventory", "0003_returned_units"),
    ]

    operations = [
        migrations.CreateModel(
            name="Restocking",
            fields=[
                (
                    "pk",
                    django.db.models.fields.composite.CompositePrimaryKey(
                        "reference", "sku", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("reference", infra.sharding.fields.AsciiField(max_length=64)),
                ("sku", infra.sharding.fields.AsciiField(max_length=64)),
                ("order_id", models.BigIntegerField()),
                ("quantity", models.IntegerField()),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "inventory_restocking",
                "indexes": [models.Index(fields=["at"], name="restocking_at")],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("quantity__gt", 0)), name="restocking_quantity_positive")
                ],
            },
        ),
    ]
