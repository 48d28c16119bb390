"""Background work of the topology."""

from datetime import UTC, datetime

from celery import shared_task
from django.conf import settings

from infra.sharding.month_tables import make_months
from infra.sharding.months import Month


@shared_task(name="sharding.create_months")
def create_months() -> None:
    """Make what is missing of the tables of this and the coming months."""
    month = Month.of(datetime.now(UTC))
    for _ in range(settings.MONTHS_AHEAD + 1):
        make_months(month)
        month = month.next()
