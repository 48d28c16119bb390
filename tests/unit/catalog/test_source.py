"""What the codes of the real shop become."""

from decimal import Decimal

import pytest

from apps.catalog import source
from apps.catalog.domain import CATEGORIES, category_of, is_goods, sku_of_stock_code, title_of
from apps.catalog.models import validate_sku
from apps.catalog.source import CodeLine


def line(code: str, description: str, price: str, count: int = 1) -> CodeLine:
    return CodeLine(code, description, Decimal(price), count)


def rows(report: source.Report) -> dict[str, int]:
    return {kind: count for kind, _, count, _ in report.rows()}


def test_codes_that_differ_only_by_case_are_skus_of_one_product() -> None:
    drafts, report = source.draft_products(
        [line("85123A", "WHITE HEART", "2.55"), line("85123a", "WHITE HEART", "5.79")]
    )
    assert [(draft.source_code, draft.title) for draft in drafts] == [("85123A", "White Heart")]
    assert [(sku.code, sku.name, sku.price) for sku in drafts[0].skus] == [
        ("85123A", "White Heart (85123A)", Decimal("2.55")),
        ("85123a", "White Heart (85123a)", Decimal("5.79")),
    ]
    assert rows(report) == {"codes that differ only by case": 2}


def test_the_most_frequent_price_and_description_win() -> None:
    drafts, report = source.draft_products(
        [
            line("10002", "GLOBE", "0.85", 3),
            line("10002", "GLOBE", "1.66", 2),
            line("10002", "GLOBE INFLATABLE", "1.66", 2),
            line("10002", "damaged", "0", 99),
        ]
    )
    assert (drafts[0].title, drafts[0].skus[0].price) == ("Globe", Decimal("1.66"))
    assert rows(report) == {"lines with a price of zero or less": 1, "several descriptions": 1}


@pytest.mark.parametrize(
    "code", ["POST", "D", "M", "m", "C2", "DOT", "BANK CHARGES", "S", "AMAZONFEE", "B", "CRUK", "PADS"]
)
def test_what_is_no_goods_becomes_nothing(code: str) -> None:
    drafts, report = source.draft_products([line(code, "Something", "18.00")])
    assert drafts == []
    assert not is_goods(code)
    assert sku_of_stock_code(code) is None
    assert "no goods (postage, fees, discounts, corrections)" in rows(report)
    assert ("a space in the code" in rows(report)) == (" " in code)


@pytest.mark.parametrize(
    ("code", "sku"),
    [
        ("85123A", "85123A"),
        ("85123a", "85123a"),
        ("DCGS0076", "DCGS0076"),
        ("gift_0001_40", "gift_0001_40"),
        ("15056 B", "15056-B"),
    ],
)
def test_goods_keep_their_code_as_sku_where_a_sku_may_be_so(code: str, sku: str) -> None:
    assert sku_of_stock_code(code) == sku


@pytest.mark.parametrize(
    ("description", "price"), [("", "0"), ("OLD LAMP", "0"), ("OLD LAMP", "-5"), ("TINY", "0.001")]
)
def test_what_was_never_sold_at_a_price_is_not_for_sale(description: str, price: str) -> None:
    drafts, _ = source.draft_products([line("23001", description, price)])
    assert drafts[0].skus[0].price is None
    assert not drafts[0].is_active
    assert drafts[0].title


def test_a_price_with_three_decimals_is_rounded_half_up() -> None:
    drafts, _ = source.draft_products([line("23001", "LAMP", "1.055")])
    assert drafts[0].skus[0].price == Decimal("1.06")


@pytest.mark.parametrize(
    ("description", "title"),
    [
        ("WHITE HANGING HEART T-LIGHT HOLDER", "White Hanging Heart T-Light Holder"),
        ("CHILDREN'S  MUG ", "Children's Mug"),
        ("SET OF 3 CAKE TINS", "Set of 3 Cake Tins"),
        ("THE KING GIFT BAG", "The King Gift Bag"),
    ],
)
def test_titles_are_in_mixed_case(description: str, title: str) -> None:
    assert title_of(description) == title


@pytest.mark.parametrize(
    ("title", "category"),
    [
        ("Christmas Candle", "christmas"),
        ("White Hanging Heart T-Light Holder", "candles-and-lights"),
        ("Red Retrospot Mug", "kitchen"),
        ("Item 12345", "other"),
    ],
)
def test_the_words_of_a_title_choose_its_category(title: str, category: str) -> None:
    assert category_of(title) == category


def test_the_shipped_part_rebuilds_the_whole_shop() -> None:
    drafts, report = source.draft_products(source.read_part())
    skus = [sku for draft in drafts for sku in draft.skus]

    assert len(skus) + rows(report)["no goods (postage, fees, discounts, corrections)"] == 4070
    assert len({sku.code for sku in skus}) == len(skus)
    assert rows(report)["codes that differ only by case"] == 222
    for sku in skus:
        validate_sku(sku.code)
        assert sku.name
        assert sku.price is None or sku.price > 0
    assert {draft.category for draft in drafts} <= CATEGORIES.keys()
    assert source.PART.stat().st_size < 1_500_000


def test_the_invoice_lines_are_folded_in_a_fixed_order() -> None:
    invoice = {"StockCode": "B", "Description": " TWO  SPACES ", "UnitPrice": "1.00"}
    assert source.count_lines([invoice, invoice, {**invoice, "StockCode": "A"}]) == [
        ("A", "TWO SPACES", Decimal("1.00"), 1),
        ("B", "TWO SPACES", Decimal("1.00"), 2),
    ]
