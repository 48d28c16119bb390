from django.db import migrations, models

import infra.sharding.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OutboxEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event_id", infra.sharding.fields.AsciiField(max_length=32)),
                ("type", infra.sharding.fields.AsciiField(max_length=64)),
                ("schema_version", models.SmallIntegerField(default=1)),
                ("aggregate", infra.sharding.fields.AsciiField(max_length=32)),
                ("aggregate_id", models.BigIntegerField()),
                ("aggregate_version", models.IntegerField()),
                ("slot", models.SmallIntegerField()),
                ("user_id", models.BigIntegerField()),
                ("order_id", models.BigIntegerField(null=True)),
                ("occurred_at", models.DateTimeField()),
                ("payload", models.TextField()),
                ("headers", models.TextField()),
                ("sent_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "outbox_event",
                "indexes": [models.Index(fields=["sent_at", "id"], name="outbox_event_sent")],
            },
        ),
        # A day of sent rows at two million orders a day over two shards is 4 to 8 million rows a shard.
        migrations.RunSQL(
            "ALTER TABLE outbox_event PARTITION BY HASH (id) PARTITIONS 16",
            "ALTER TABLE outbox_event REMOVE PARTITIONING",
            hints={"databases": ("shards",)},
        ),
        migrations.CreateModel(
            name="Relay",
            fields=[
                ("name", infra.sharding.fields.AsciiField(max_length=32, primary_key=True, serialize=False)),
                ("holder", infra.sharding.fields.AsciiField(default="", max_length=64)),
                ("token", models.BigIntegerField(default=0)),
                ("expires_at", models.DateTimeField()),
                ("bus_epoch", infra.sharding.fields.AsciiField(default="", max_length=32)),
                ("batch_number", models.BigIntegerField(default=0)),
                ("refeed_after", models.BigIntegerField(null=True)),
                ("refeed_through", models.BigIntegerField(default=0)),
            ],
            options={"db_table": "outbox_relay"},
        ),
    ]
