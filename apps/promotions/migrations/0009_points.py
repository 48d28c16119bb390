from django.db import migrations, models

from infra.sharding.operations import PartitionBySlot


class Migration(migrations.Migration):
    dependencies = [
        ("promotions", "0008_coupons"),
    ]

    operations = [
        migrations.CreateModel(
            name="PointsBalance",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot", "user_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("balance", models.BigIntegerField(default=0)),
                ("owed", models.BigIntegerField(default=0)),
                ("version", models.BigIntegerField(default=1)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "promotions_points_balance",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("balance__gte", 0)), name="points_balance_not_negative"),
                    models.CheckConstraint(condition=models.Q(("owed__gte", 0)), name="points_owed_not_negative"),
                ],
            },
        ),
        PartitionBySlot("promotions_points_balance", partitions=16),
        migrations.CreateModel(
            name="PointsLot",
            fields=[
                ("slot", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "slot",
                        "user_id",
                        "expires_on",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.BigIntegerField()),
                ("expires_on", models.DateField()),
                ("remaining", models.BigIntegerField()),
            ],
            options={
                "db_table": "promotions_points_lot",
                "indexes": [models.Index(fields=["expires_on"], name="promotions_points_lot_expiry")],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("remaining__gte", 0)), name="points_lot_not_negative")
                ],
            },
        ),
        PartitionBySlot("promotions_points_lot", partitions=32),
    ]
