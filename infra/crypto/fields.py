"""Columns that hold personal data: plain in Python, encrypted in the database.

Nothing can be searched or sorted by them: a lookup other than `isnull` raises. An empty text is stored as it is.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.core.exceptions import FieldError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression

from infra.crypto.cipher import decrypt_text, encrypt_text

_LOOKUPS: Final = frozenset({"isnull"})


class EncryptedField(models.TextField):  # type: ignore[type-arg]  # generic in the stubs only
    """Base of the encrypted columns; the database sees ASCII."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("db_collation", "ascii_bin")
        super().__init__(**options)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """Leave the collation out of migrations where it is the field's own."""
        name, path, args, kwargs = super().deconstruct()
        if kwargs.get("db_collation") == "ascii_bin":
            del kwargs["db_collation"]
        return name, path, args, kwargs

    def get_lookup(self, lookup_name: str) -> Any:
        """Refuse to compare: equal texts are stored differently."""
        if lookup_name not in _LOOKUPS:
            raise FieldError(f"{self.name} is encrypted and cannot be searched; use a blind index.")
        return super().get_lookup(lookup_name)


class EncryptedTextField(EncryptedField):
    """A text."""

    def get_prep_value(self, value: Any) -> Any:
        """Return the text as it is stored."""
        return encrypt_text(str(value)) if value else value

    def from_db_value(self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper) -> str | None:
        """Return the text; raises Undecryptable."""
        return decrypt_text(value) if value else value


class EncryptedJSONField(EncryptedField):
    """A JSON value in one ciphertext: cheaper than a column for each member, and it hides which are empty."""

    # What django-stubs takes for the types of the attribute.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def get_prep_value(self, value: Any) -> Any:
        """Return the JSON as it is stored."""
        return value if value is None else seal_json(value)

    def from_db_value(self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper) -> Any:
        """Return the JSON value; raises Undecryptable."""
        return value if value is None else open_json(value)

    def to_python(self, value: Any) -> Any:
        """Return the value itself; it is no text."""
        return value


def seal_json(value: object) -> str:
    """Return a JSON value as an encrypted column stores it, for writers that use plain SQL."""
    return encrypt_text(msgspec.json.encode(value).decode())


def open_json(sealed: str) -> Any:
    """Return what `seal_json` was given; raises Undecryptable."""
    return msgspec.json.decode(decrypt_text(sealed))
