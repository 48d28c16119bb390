"""How a search is taken apart, whatever is typed."""

from hypothesis import given
from hypothesis import strategies as st

from apps.catalog.search import MAX_WORDS, words_of


def test_words_are_split_by_whether_the_full_text_index_holds_them() -> None:
    words = words_of("+The Set OF 3 metal-lanterns* (café)")
    assert words.indexed == ("set", "metal", "lanterns")
    assert words.others == ("the", "of", "3", "café")


def test_only_the_first_words_count_and_each_once() -> None:
    words = words_of(" ".join(["jug"] * 5 + [f"word{number}" for number in range(20)]))
    assert words.indexed[0] == "jug"
    assert len(words.indexed) == MAX_WORDS


@given(st.text(max_size=100))
def test_no_text_puts_an_operator_into_the_query(text: str) -> None:
    for word in words_of(text).indexed:
        assert word.isascii()
        assert word.replace("_", "a").isalnum()
