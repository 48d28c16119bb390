"""The rights of those who ship orders and receive returns; orders themselves are in monthly tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OrderWork",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
            options={
                "verbose_name": "order",
                "permissions": [
                    ("ship_order", "Can ship orders"),
                    ("receive_return", "Can decide on returns and receive them"),
                ],
                "managed": False,
                "default_permissions": (),
            },
        ),
    ]
