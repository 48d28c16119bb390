"""Figures of each hour: every event counted once, by whichever process, none before it can be overtaken."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders.services import figures
from apps.orders.services.cancellation import cancel_order_as_staff
from apps.orders.services.figures import LAG_S, Figure, figures_between, sum_up_figures
from apps.orders.staff import start
from tests.factories.orders import make_buyer, make_sku, placed_order

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def of_this_hour(now) -> dict[str, tuple[int, Decimal]]:
    hour = now.replace(minute=0, second=0, microsecond=0)
    found, unreachable = figures_between(hour, hour + timedelta(hours=1))
    assert not unreachable
    return {figure.kind: (figure.count, figure.amount) for figure in found}


@pytest.mark.parametrize("batch", [1, 2, 2000])
def test_each_event_is_counted_once_and_only_when_nothing_can_come_before_it(monkeypatch, batch):
    # given orders on both shards, of which one is cancelled
    monkeypatch.setattr(figures, "BATCH_ROWS", batch)
    now = timezone.now().replace(minute=30, second=0)
    orders = [placed_order(make_buyer(shard=number % 2), [(make_sku(), 2)], now=now) for number in range(3)]
    cancel_order_as_staff(order_id=orders[0].id, reason="", actor="staff:1", now=now)

    # then nothing is counted while a transaction with a lower id may still be open
    sum_up_figures(now=now + timedelta(seconds=LAG_S - 5))
    assert of_this_hour(now) == {}
    # and all is counted afterwards, once, however often
    for _ in range(3):
        sum_up_figures(now=now + timedelta(seconds=LAG_S + 5))
    total = sum(order.total for order in orders)
    assert of_this_hour(now) == {"placed": (3, total), "cancelled": (1, Decimal(0))}


def test_the_start_page_shows_today(staff, monkeypatch):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    rows = [
        Figure(hour, "placed", "GBP", 40, Decimal("400.0000")),
        Figure(hour, "paid", "GBP", 30, Decimal("300.0000")),
        Figure(hour, "refund", "GBP", 1, Decimal("12.5000")),
        Figure(hour, "payment_failed", "GBP", 10, Decimal(0)),
        Figure(hour - timedelta(days=1), "paid", "GBP", 99, Decimal(999)),
    ]
    monkeypatch.setattr(start, "figures_between", lambda begin, end: (rows, ["shard_1"]))
    make_sku(3)
    start.alarms.forget()
    page = staff.get("/admin/").content.decode()
    for shown in ("<b>40</b>", "<b>287.50</b>", "<b>25.0 %</b>", "shard_1 does not answer", "Running out"):
        assert shown in page
