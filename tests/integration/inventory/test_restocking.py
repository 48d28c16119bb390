"""Units that come back into stock by reference: once, whoever repeats it, and kept in mind as long as movements."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_hex
from threading import Barrier

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory.errors import UnknownSku
from apps.inventory.models import Restocking
from apps.inventory.services import purge_restockings, restock_by_reference
from tests.factories.inventory import counters, make_stock

pytestmark = pytest.mark.usefixtures("committed")


def test_units_come_back_once_for_each_reference():
    sku, other, reference = make_stock(5), make_stock(5), f"ret_{token_hex(8)}"
    again = {"order_id": 1, "now": timezone.now()}
    assert restock_by_reference(reference, {sku: 2, other: 1}, **again) == 3
    assert restock_by_reference(reference, {sku: 2, other: 1}, **again) == 0
    assert (counters(sku), counters(other)) == ((7, 0), (6, 0))
    with pytest.raises(UnknownSku):
        restock_by_reference(f"{reference}x", {"nowhere": 1, sku: 1}, **again)
    assert counters(sku) == (7, 0)
    # and without the row under the reference, it would come twice (negative control)
    Restocking.objects.filter(reference=reference).delete()
    assert restock_by_reference(reference, {sku: 2}, **again) == 2
    assert counters(sku) == (9, 0)
    days = settings.INVENTORY_MOVEMENT_RETENTION_DAYS
    purge_restockings(now=timezone.now() + timedelta(days=days - 1))
    assert Restocking.objects.filter(reference=reference).count() == 1
    purge_restockings(now=timezone.now() + timedelta(days=days + 1))
    assert not Restocking.objects.filter(reference=reference).exists()


def test_the_same_return_at_once_comes_back_once():
    sku, reference, barrier = make_stock(5), f"ret_{token_hex(8)}", Barrier(4)

    def run(_):
        barrier.wait()
        try:
            return restock_by_reference(reference, {sku: 2}, order_id=1, now=timezone.now())
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(run, range(4))) == [0, 0, 0, 2]
    assert counters(sku) == (7, 0)
