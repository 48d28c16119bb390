from django.db import migrations, models

import infra.sharding.fields
from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="FollowUpRow",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot", "order_id", "kind", "n", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("slot", models.SmallIntegerField()),
                ("order_id", models.BigIntegerField()),
                ("kind", infra.sharding.fields.AsciiField(max_length=32)),
                ("n", models.SmallIntegerField(default=0)),
                ("due_at", models.DateTimeField()),
                ("attempt_count", models.IntegerField(default=0)),
                ("version", models.IntegerField(default=1)),
                ("last_error", models.CharField(blank=True, default="", max_length=200)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "followups_followup",
                "indexes": [models.Index(fields=["kind", "due_at"], name="followups_due")],
            },
        ),
        PartitionBySlot("followups_followup", partitions=16),
    ]
