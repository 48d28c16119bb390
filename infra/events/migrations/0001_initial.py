from django.db import migrations, models

import infra.sharding.fields
from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="InboxEntry",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "event_id", "group_name", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("event_id", infra.sharding.fields.DigestField(length=16)),
                ("group_name", infra.sharding.fields.AsciiField(max_length=32)),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "db_table": "events_inbox",
                "indexes": [models.Index(fields=["seen_at"], name="events_inbox_seen")],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE events_inbox PARTITION BY KEY (event_id) PARTITIONS 32",
            "ALTER TABLE events_inbox REMOVE PARTITIONING",
            hints={"databases": ("inventory", "shards")},
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot",
                        "group_name",
                        "aggregate",
                        "aggregate_id",
                        "aggregate_version",
                        "event_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("slot", models.SmallIntegerField()),
                ("group_name", infra.sharding.fields.AsciiField(max_length=32)),
                ("aggregate", infra.sharding.fields.AsciiField(max_length=32)),
                ("aggregate_id", models.BigIntegerField()),
                ("aggregate_version", models.IntegerField()),
                ("event_id", infra.sharding.fields.AsciiField(max_length=32)),
                ("type", infra.sharding.fields.AsciiField(max_length=64)),
                ("envelope", models.TextField()),
                (
                    "state",
                    infra.sharding.fields.AsciiField(
                        choices=[("failed", "Failed"), ("parked", "Parked")], max_length=8
                    ),
                ),
                ("attempt_count", models.IntegerField(default=0)),
                ("last_error", models.CharField(blank=True, default="", max_length=500)),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "events_deadletter"},
        ),
        PartitionBySlot("events_deadletter", partitions=8),
    ]
