"""Finding products by text: which words a full-text index can answer, and the condition in SQL."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Lookup

MAX_WORDS: Final = 8
_WORD: Final = re.compile(r"\w+")
_INDEXED: Final = re.compile(r"[A-Za-z0-9_]{3,80}", re.ASCII)
# InnoDB leaves these out of its full-text indexes by default (MySQL and MariaDB alike); asking for one finds nothing.
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a about an are as at be by com de en for from how i in is it la of on or that the this to was what when where "
        "who will with und www",
    )
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a search: those that the full-text index holds, by their beginnings, and the rest."""

    indexed: tuple[str, ...]
    others: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.indexed or self.others)


def words_of(text: str) -> Words:
    """Split what a shopper typed into words; operators and punctuation mean nothing.

    At most MAX_WORDS count. Short words, stop words and words of other scripts are compared without the index.
    """
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))[:MAX_WORDS]
    indexed = tuple(word for word in words if _INDEXED.fullmatch(word) and word not in _STOP_WORDS)
    return Words(indexed, tuple(word for word in words if word not in indexed))


class HasWords(Lookup):
    """Condition: a full-text indexed column has, for each word, one that begins with it."""

    lookup_name = "has_words"
    prepare_rhs = False

    def __init__(self, column: str, words: Iterable[str]) -> None:
        super().__init__(F(column), " ".join(f"+{word}*" for word in words))

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:  # type: ignore[override]
        """Return MATCH ... AGAINST, which Django does not have."""
        column, parameters = self.process_lhs(compiler, connection)
        return f"MATCH ({column}) AGAINST (%s IN BOOLEAN MODE)", [*parameters, self.rhs]


def search_text_of(title: str, codes: Iterable[str]) -> str:
    """Return what the text search reads of a product: its title and SKUs."""
    return " ".join([title, *sorted(codes)])
