"""Blind indexes: keyed, of a kind, under all keys."""

from infra.crypto.blind_index import DIGEST_BYTES, blind_index

OLD, NEW = ("old", "a" * 64), ("new", "b" * 64)


def test_a_value_has_one_digest_for_each_key(settings) -> None:
    settings.INDEX_KEYS = [OLD, NEW]
    entries = blind_index("email", "ada@example.org")
    assert [entry.key_id for entry in entries] == ["old", "new"]
    assert len({entry.digest for entry in entries}) == 2
    assert all(len(entry.digest) == DIGEST_BYTES for entry in entries)


def test_the_digest_depends_on_the_key_and_the_kind_only(settings) -> None:
    settings.INDEX_KEYS = [OLD]
    digest = blind_index("email", "ada@example.org")[0].digest
    assert digest == blind_index("email", "ada@example.org")[0].digest
    assert digest != blind_index("username", "ada@example.org")[0].digest
    settings.INDEX_KEYS = [("old", "c" * 64)]
    assert digest != blind_index("email", "ada@example.org")[0].digest
