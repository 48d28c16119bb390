"""Runs of the reconciliation, and the differences that they find."""

from django.db import migrations, models

import infra.sharding.fields


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0002_permissions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Difference",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", infra.sharding.fields.AsciiField(max_length=32)),
                ("day", models.DateField()),
                (
                    "kind",
                    infra.sharding.fields.AsciiField(
                        choices=[
                            ("missing_here", "missing_here"),
                            ("missing_there", "missing_there"),
                            ("amount", "amount"),
                            ("doubled", "doubled"),
                            ("contradiction", "contradiction"),
                            ("unknown", "unknown"),
                        ],
                        max_length=16,
                    ),
                ),
                ("reference", infra.sharding.fields.AsciiField(max_length=64)),
                ("ours", models.CharField(default="", max_length=100)),
                ("theirs", models.CharField(default="", max_length=100)),
                ("since", models.DateTimeField()),
                (
                    "state",
                    infra.sharding.fields.AsciiField(
                        choices=[("open", "open"), ("mended", "mended"), ("resolved", "resolved")],
                        default="open",
                        max_length=8,
                    ),
                ),
                ("resolution", models.CharField(default="", max_length=255)),
                ("resolved_by", infra.sharding.fields.AsciiField(default="", max_length=64)),
                ("found_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "payments_difference",
                "permissions": [("resolve_difference", "Can resolve differences of settlements")],
                "indexes": [models.Index(fields=["state", "since"], name="payments_difference_open")],
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "reference", "kind"), name="payments_difference_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="SettlementRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", infra.sharding.fields.AsciiField(max_length=32)),
                ("day", models.DateField()),
                ("lines_done", models.BigIntegerField(default=0)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "payments_settlement_run",
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "day"), name="settlement_run_once"),
                ],
            },
        ),
    ]
