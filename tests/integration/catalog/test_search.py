"""Searching products by text, whatever is typed. Committed rows: the full-text index holds no others."""

from secrets import token_hex

import pytest

from apps.catalog import selectors
from apps.catalog.models import Category, Product
from apps.catalog.search import HasWords
from apps.catalog.types import ProductFilter
from tests.factories.catalog import make_category, make_product

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def category() -> Category:
    return make_category()


def found(category: Category, text: str, *, limit: int = 20) -> list[int]:
    narrow = ProductFilter(category=category.slug, text=text)
    ids, _ = selectors._find_page(narrow, None, limit)
    return ids


@pytest.mark.parametrize(
    "text",
    [
        "lantern",
        "LANTERN",
        "lant",
        "metal lantern",
        "the lantern",
        "lantern of the",
        "t-light lantern",
        "+lantern -metal",
        '"lantern',
        "lantern*",
        "(lantern",
        "lantern @ > <",
        "lantern'; DROP TABLE catalog_product; --",
        "a lantern",
    ],
)
def test_every_word_that_means_something_is_found_however_it_is_typed(category: Category, text: str) -> None:
    lantern = make_product("White Metal Lantern, the T-Light of a Drop Table for catalog_product", category=category)
    make_product("Red Retrospot Mug", category=category)
    assert found(category, text) == [lantern.id]


@pytest.mark.parametrize("text", ["mug lantern", "%", "_", "\\", "+++", "''", "💡", " ", "zzz", "of zzz"])
def test_what_is_not_there_is_not_found_and_no_operator_is_an_error(category: Category, text: str) -> None:
    make_product("White Metal Lantern", category=category)
    assert found(category, text) == []


@pytest.mark.parametrize(
    ("text", "title"), [("of", "Set of 3"), ("знак", "Знак Sign"), ("咖啡", "咖啡 Mug"), ("3", "Set of 3")]
)
def test_words_that_the_index_leaves_out_are_found_all_the_same(category: Category, text: str, title: str) -> None:
    product = make_product(title, category=category)
    # A code of random digits or letters would now and then hold "3" or "of".
    code = token_hex(6).translate(str.maketrans("0123456789abcdef", "ghijklmnpqrstuvw"))
    make_product("Plain Jug", skus={code: "1.00"}, category=category)
    assert found(category, text) == [product.id]


def test_a_product_is_found_by_its_sku(category: Category) -> None:
    code = f"9{token_hex(4)}B"
    product = make_product("Jug", skus={code: "1.00"}, category=category)
    assert found(category, code) == [product.id]


def test_results_are_newest_first_and_pages_follow(category: Category) -> None:
    made = [make_product("Blue Jug", category=category).id for _ in range(3)]
    narrow = ProductFilter(category=category.slug, text="jug")
    ids, following = selectors._find_page(narrow, None, 2)
    rest, end = selectors._find_page(narrow, following, 2)
    assert [*ids, *rest] == made[::-1]
    assert end is None


def test_a_search_without_the_index_goes_through_a_bounded_range_a_page(
    category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_product("Set of 3", category=category)
    for _ in range(5):
        make_product("Plain Jug", category=category)
    monkeypatch.setattr(selectors, "SCAN_WINDOW", 3)
    narrow = ProductFilter(category=category.slug, text="of")

    ids, before = selectors._find_page(narrow, None, 20)
    assert ids == []
    while before is not None and not ids:
        ids, before = selectors._find_page(narrow, before, 20)
    assert ids == [old.id]


def test_the_index_is_used() -> None:
    """Else a search reads every product. The plan must name the full-text index."""
    plan = Product.objects.using("catalog").filter(HasWords("search_text", ["lantern"])).explain()
    assert "fulltext" in plan.lower() or "Full-text" in plan
