from django.db import migrations, models

import infra.crypto.fields
import infra.sharding.fields
from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0002_one_time_codes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Erasure",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot", "user_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("actor", infra.sharding.fields.AsciiField(max_length=64)),
                ("requested_at", models.DateTimeField()),
                ("step", infra.sharding.fields.AsciiField(default="", max_length=32)),
                ("cursor", infra.sharding.fields.AsciiField(default="", max_length=64)),
                ("due_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "users_erasure",
                "indexes": [models.Index(fields=["due_at"], name="users_erasure_due")],
            },
        ),
        migrations.CreateModel(
            name="DataExport",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot", "user_id", "id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("id", infra.sharding.fields.AsciiField(max_length=32)),
                (
                    "state",
                    infra.sharding.fields.AsciiField(
                        choices=[("requested", "Requested"), ("ready", "Ready")], default="requested", max_length=16
                    ),
                ),
                ("requested_at", models.DateTimeField()),
                ("step", infra.sharding.fields.AsciiField(default="", max_length=32)),
                ("cursor", infra.sharding.fields.AsciiField(default="", max_length=64)),
                ("part_count", models.IntegerField(default=0)),
                ("due_at", models.DateTimeField(null=True)),
                ("ready_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "users_export",
                "indexes": [
                    models.Index(fields=["due_at"], name="users_export_due"),
                    models.Index(fields=["expires_at"], name="users_export_expires"),
                ],
            },
        ),
        migrations.CreateModel(
            name="DataExportPart",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot",
                        "user_id",
                        "export_id",
                        "n",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("export_id", infra.sharding.fields.AsciiField(max_length=32)),
                ("n", models.IntegerField()),
                ("content", infra.crypto.fields.EncryptedJSONField()),
            ],
            options={
                "db_table": "users_export_part",
            },
        ),
        PartitionBySlot("users_erasure", partitions=16),
        PartitionBySlot("users_export", partitions=16),
        PartitionBySlot("users_export_part", partitions=16),
        migrations.AlterField(
            model_name="customer",
            name="state",
            field=infra.sharding.fields.AsciiField(
                choices=[
                    ("registering", "Registering"),
                    ("live", "Live"),
                    ("blocked", "Blocked"),
                    ("erased", "Erased"),
                ],
                default="registering",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="session",
            name="end_reason",
            field=infra.sharding.fields.AsciiField(
                choices=[
                    ("logout", "Logout"),
                    ("deleted", "Deleted"),
                    ("reused", "Reused"),
                    ("password", "Password"),
                    ("blocked", "Blocked"),
                    ("crowded_out", "Crowded Out"),
                    ("first_proof", "First Proof"),
                    ("erased", "Erased"),
                ],
                default="",
                max_length=16,
            ),
        ),
    ]
