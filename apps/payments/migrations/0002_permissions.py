"""Permissions over refunds and attempts, whose own rows are in monthly tables and have none."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="callback",
            options={
                "permissions": [
                    ("decide_refund", "Can approve, reject and retry refunds"),
                    ("capture_payment", "Can capture authorized payments"),
                ]
            },
        ),
    ]
