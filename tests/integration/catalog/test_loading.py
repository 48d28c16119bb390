"""load_catalog makes what is missing, leaves what is there, and reports."""

import gzip
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.catalog import selectors, source
from apps.catalog.models import Price, Product, Sku
from apps.inventory.models import Stock

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part of seven codes, made by the command that makes the shipped one."""
    original = tmp_path / "original.csv.gz"
    lines = [
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        "1,98765A,RED MUG,1,2010-12-01 08:26:00,2.55,1,France",
        "1,98765A,RED MUG,1,2010-12-01 08:26:00,2.55,1,France",
        "1,98765a,RED MUG,1,2010-12-01 08:26:00,4.00,1,France",
        "1,98766,CHRISTMAS STAR,1,2010-12-01 08:26:00,1.05,1,France",
        "1,98767,,1,2010-12-01 08:26:00,0,1,France",
        "1,POST,POSTAGE,1,2010-12-01 08:26:00,18,1,France",
        "1,BANK CHARGES,Bank Charges,1,2010-12-01 08:26:00,15,1,France",
    ]
    original.write_bytes(gzip.compress("\n".join(lines).encode()))
    part = tmp_path / "part.csv.gz"
    call_command("make_catalog_part", original, out=part, stdout=StringIO())
    return part


def load(part: Path) -> str:
    out = StringIO()
    call_command("load_catalog", file=part, stdout=out)
    return out.getvalue()


def test_a_load_makes_products_skus_prices_and_tells_what_it_left_out(part: Path) -> None:
    report = load(part)

    prices = selectors.prices(["98765A", "98765a", "98766", "98767", "POST"])
    assert {code: str(price.unit_price) for code, price in prices.items()} == {
        "98765A": "2.55",
        "98765a": "4.00",
        "98766": "1.05",
    }
    assert prices["98765A"].product_id == prices["98765a"].product_id
    assert (prices["98766"].title, prices["98766"].currency) == ("Christmas Star", "GBP")
    assert Product.objects.get(source_code="98766").category.slug == "christmas"
    for told in ("2 codes  codes that differ only by case", "BANK CHARGES", "2 codes  no goods", "1 codes  no desc"):
        assert told in report


def test_a_second_load_changes_nothing_not_even_what_the_staff_changed(part: Path) -> None:
    load(part)
    Price.objects.filter(sku__code="98766").update(amount="9.99")
    Product.objects.filter(source_code="98766").update(title="Star of Bethlehem")
    Price.objects.filter(sku__code="98765a").delete()

    assert "New: 0 categories, 0 products, 0 SKUs, 0 prices." in load(part)

    prices = selectors.prices(["98766", "98765a"])
    assert {code: (price.title, str(price.unit_price)) for code, price in prices.items()} == {
        "98766": ("Star of Bethlehem", "9.99")
    }


def test_a_file_that_is_no_part_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv.gz"
    wrong.write_bytes(b"not gzip")
    with pytest.raises(CommandError, match="cannot be read"):
        load(wrong)
    with pytest.raises(CommandError, match="cannot be read"):
        load(tmp_path / "missing")


def test_stock_is_opened_for_skus_that_have_none(part: Path) -> None:
    load(part)
    Stock.objects.create(sku="98766", on_hand=5)
    out = StringIO()

    call_command("seed_stock", to=40, stdout=out)
    call_command("seed_stock", to=99, stdout=out)

    assert dict(Stock.objects.filter(sku__startswith="9876").values_list("sku", "on_hand")) == {
        "98765A": 40,
        "98765a": 40,
        "98766": 5,
        "98767": 40,
    }
    assert Stock.objects.count() >= Sku.objects.count()


def test_prices_leave_out_what_is_unknown_and_what_no_sku_can_be() -> None:
    assert selectors.prices(["nowhere", "ключ", "98766 ", ""]) == {}


def test_the_part_has_its_attribution() -> None:
    text = (source.PART.parent / "README.md").read_text()
    assert "CC BY 4.0" in text
    assert "Daqing Chen" in text
