"""The table of callbacks; attempts and refunds are monthly tables, which `create_months` makes."""

import django.db.models.fields.composite
from django.db import migrations, models

import infra.sharding.fields
from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Callback",
            fields=[
                (
                    "pk",
                    django.db.models.fields.composite.CompositePrimaryKey(
                        "slot",
                        "provider",
                        "account",
                        "event_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("slot", models.SmallIntegerField()),
                ("provider", infra.sharding.fields.AsciiField(max_length=32)),
                ("account", infra.sharding.fields.AsciiField(max_length=64)),
                ("event_id", infra.sharding.fields.AsciiField(max_length=128)),
                ("order_id", models.BigIntegerField()),
                ("reference", infra.sharding.fields.AsciiField(max_length=64)),
                ("raw_body", models.BinaryField()),
                (
                    "result",
                    infra.sharding.fields.AsciiField(
                        choices=[
                            ("applied", "applied"),
                            ("ignored", "ignored"),
                            ("contradiction", "contradiction"),
                            ("mismatch", "mismatch"),
                        ],
                        max_length=16,
                    ),
                ),
                ("alert", models.BooleanField(default=False)),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "db_table": "payments_callback",
                "indexes": [
                    models.Index(fields=["received_at"], name="payments_callback_received"),
                    models.Index(fields=["alert", "received_at"], name="payments_callback_alerts"),
                ],
            },
        ),
        # 90 days of deliveries: the largest table of the shards that has no month.
        PartitionBySlot("payments_callback", partitions=64),
    ]
