"""Column types for codes, keys, digests: compared byte for byte, whatever the server's default collation."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class AsciiField(models.CharField):  # type: ignore[type-arg]
    """A code or reference in ASCII (`ascii_bin`): case counts.

    `ascii_bin` ignores trailing spaces in comparisons, so a value that ends in one is refused (ValueError), like one
    that is not ASCII, which the server would refuse to compare.
    """

    def __init__(self, max_length: int, **options: Any) -> None:
        options.setdefault("db_collation", "ascii_bin")
        super().__init__(max_length=max_length, **options)

    def get_prep_value(self, value: Any) -> Any:
        """Return the text as the server gets it."""
        text = super().get_prep_value(value)
        if isinstance(text, str) and (not text.isascii() or text.endswith(" ")):
            raise ValueError(f"{self.name} takes ASCII without a space at its end.")
        return text

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Leave the collation out of migrations where it is the field's own."""
        name, path, args, kwargs = super().deconstruct()
        if kwargs.get("db_collation") == "ascii_bin":
            del kwargs["db_collation"]
        return name, path, args, kwargs


class DigestField(models.BinaryField):  # type: ignore[type-arg]
    """A digest or other short bytes that can be a key: VARBINARY(length)."""

    def __init__(self, length: int, **options: Any) -> None:
        self.length = length
        options["max_length"] = length
        super().__init__(**options)

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return the column's type."""
        return f"varbinary({self.length})"

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Describe the field for migrations by its length."""
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_length"]
        kwargs["length"] = self.length
        return name, path, args, kwargs
