"""Importing past invoices: each becomes one closed order, once."""

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from secrets import token_hex

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from apps.orders.importing import load
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.orders.selectors import list_orders, order_events
from apps.orders.types import OrderFilter
from infra.sharding.ids import IMPORT_WORKER, parse, time_of
from infra.sharding.monthly import existing_months
from infra.sharding.months import Month
from tests.factories.inventory import counters
from tests.factories.orders import make_sku

pytestmark = pytest.mark.usefixtures("committed")

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
MONTHS = [Month(2012, 5), Month(2012, 6)]


@pytest.fixture
def shop(tmp_path):
    return PastShop(tmp_path)


class PastShop:
    """A file of invoices of 2012, under a source of its own."""

    def __init__(self, folder: Path) -> None:
        self.source = f"test-{token_hex(4)}"
        self.path = folder / "invoices.csv.gz"
        self.lines: list[str] = []

    def sold(self, number, *, code="85123A", quantity=6, at="2012-05-31 23:30:00", price="2.55", customer="17850.0"):
        self.lines.append(f"{number},{code},HEART HOLDER,{quantity},{at},{price},{customer},United Kingdom")

    def load(self, **options):
        with gzip.open(self.path, "wt") as file:
            file.write("\n".join([HEADER, *self.lines, ""]))
        output = StringIO()
        call_command("import_orders", self.path, source=self.source, stdout=output, stderr=StringIO(), **options)
        return output.getvalue()

    def orders(self, model=Order, **narrowed):
        """Return the rows of all shards and both months."""
        by_source = {"source": self.source} if model is Order else {}
        return [
            row
            for alias in settings.SHARD_ALIASES
            for month in existing_months(alias)
            if month in MONTHS
            for row in model.objects.in_month(alias, month).filter(**by_source, **narrowed)
        ]


def outbox_count():
    total = 0
    for alias in settings.SHARD_ALIASES:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM outbox_event")
            total += cursor.fetchone()[0]
    return total


def test_invoices_become_closed_orders_of_their_time_over_both_shards(shop):
    for number in range(40):
        shop.sold(f"5{number:05}", customer=f"{number}.0")
    shop.sold("500000", code="71053", quantity=2, price="3.39", customer="0.0")
    shop.sold("C99999", quantity=-1, at="2012-06-01 00:30:00")
    events_before = outbox_count()

    report = shop.load()

    orders = shop.orders()
    assert "41 orders written, 0 were there already" in report
    assert len(orders) == 41
    assert {order._state.db for order in orders} == set(settings.SHARD_ALIASES)
    sold = next(order for order in orders if order.source_number == "500000")
    assert (sold.status, sold.payment_status, sold.fulfillment_status) == ("completed", "paid", "delivered")
    assert (sold.total, sold.currency, sold.country, sold.version) == (Decimal("22.08"), "GBP", "GB", 1)
    # Half past eleven in London's summer is half past ten in UTC; the id tells it to the second.
    assert time_of(sold.id).replace(microsecond=0) == datetime(2012, 5, 31, 22, 30, tzinfo=UTC)
    assert parse(sold.id).worker == IMPORT_WORKER
    assert [line.sku for line in shop.orders(OrderLine, order_id=sold.id)] == ["85123A", "71053"]
    cancelled = next(order for order in orders if order.source_number == "C99999")
    assert (cancelled.status, Month.of_id(cancelled.id)) == ("cancelled", MONTHS[0])
    assert outbox_count() == events_before


def test_an_imported_order_is_its_users_like_any_other(shop):
    shop.sold("500001")
    shop.load()
    [row] = shop.orders()

    page = list_orders(user_id=row.user_id, narrowed=OrderFilter(), limit=10)

    assert [(order.id, order.address["country"], order.expires_at) for order in page.rows] == [(row.id, "GB", None)]
    assert [event.kind for event in order_events(user_id=row.user_id, order_id=row.id)] == ["imported"]


def test_no_stock_is_touched(shop):
    sku = make_sku(5)
    shop.sold("500001", code=sku)
    shop.load()

    assert counters(sku) == (5, 0)


def test_importing_twice_changes_nothing(shop):
    shop.sold("500001")
    shop.sold("500002", customer="")
    shop.load()
    before = [order.__dict__ | {"_state": None} for order in shop.orders()]

    report = shop.load()

    assert "0 orders written, 2 were there already" in report
    assert [order.__dict__ | {"_state": None} for order in shop.orders()] == before


def test_a_dry_run_reports_and_writes_nothing(shop):
    shop.sold("500001")
    shop.sold("C500002", quantity=-2, customer="")

    report = shop.load(dry_run=True)

    assert "dry run: nothing was written" in report
    assert "        1         1  invoice cancelled" in report
    assert shop.orders() == []


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("killed_at", ["import_customers", "_insert", "note_order_months"])
def test_a_run_that_was_killed_is_gone_on_with(shop, monkeypatch, killed_at):
    monkeypatch.setattr(load, "_ORDERS_A_TRANSACTION", 3)
    for number in range(12):
        shop.sold(f"5{number:05}", customer=f"{number}.0")
    done, step = [], getattr(load, killed_at)

    def dying(*args, **kwargs):
        result = step(*args, **kwargs)
        done.append(1)
        if len(done) == 2 or killed_at == "import_customers":
            raise Killed
        return result

    monkeypatch.setattr(load, killed_at, dying)
    with pytest.raises(Killed):
        shop.load()
    monkeypatch.setattr(load, killed_at, step)
    assert len(shop.orders()) < 12
    shop.load()

    orders = shop.orders()
    assert sorted(order.source_number for order in orders) == [f"5{number:05}" for number in range(12)]
    for order in orders:
        assert len(shop.orders(OrderLine, order_id=order.id)) == 1
        assert len(shop.orders(OrderEvent, order_id=order.id)) == 1


def test_an_id_that_another_invoice_has_is_passed_over(shop, monkeypatch):
    derive = load.imported_id

    def crowded(*, number, attempt, **parts):
        """Give every invoice the same id at the first attempt."""
        return derive(number="same" if attempt == 0 else number, attempt=attempt, **parts)

    monkeypatch.setattr(load, "imported_id", crowded)
    for number in ("500001", "500002", "500003"):
        shop.sold(number)
    shop.load()

    assert "0 orders written, 3 were there already" in shop.load()
    assert sorted(order.source_number for order in shop.orders()) == ["500001", "500002", "500003"]


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")

    with pytest.raises(CommandError, match="does not begin with"):
        call_command("import_orders", tmp_path / "other.csv")
    with pytest.raises(CommandError):
        call_command("import_orders", tmp_path / "missing.csv")


def test_lines_that_are_none_are_counted_and_named(shop):
    shop.sold("500001")
    shop.lines += ["500002,85123A,HEART,many,2012-05-01 10:00:00,1.00,1,EIRE", "500003,85123A"]

    report = shop.load(dry_run=True)

    assert "2 lines malformed, rejected (3, 4)" in report
