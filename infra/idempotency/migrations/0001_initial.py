from django.db import migrations, models

import infra.sharding.fields
from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot", "user_id", "digest", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("digest", infra.sharding.fields.DigestField(length=32)),
                ("body_digest", infra.sharding.fields.DigestField(length=32)),
                ("resource_id", infra.sharding.fields.AsciiField(default="", max_length=64)),
                ("status", models.SmallIntegerField(null=True)),
                ("body", models.BinaryField(null=True)),
                ("location", infra.sharding.fields.AsciiField(default="", max_length=255)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "idempotency_key",
                "indexes": [models.Index(fields=["created_at"], name="idempotency_created")],
            },
        ),
        # A week of keys at two million orders a day, with their payments, over two shards: 14 million rows a shard.
        PartitionBySlot("idempotency_key", partitions=64),
    ]
