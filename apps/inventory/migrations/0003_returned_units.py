"""Units of an order that come back into stock while the rest of the order stands."""

from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = [
        ("inventory", "0002_strategies"),
    ]

    operations = [
        migrations.AddField(
            model_name="reservation",
            name="returned",
            field=models.IntegerField(default=0, db_default=0),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=Q(returned__gte=0) & Q(returned__lte=F("quantity")), name="reservation_returned_within"
            ),
        ),
    ]
