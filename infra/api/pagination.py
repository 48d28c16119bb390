"""Signed keyset cursors: opaque to clients, bound to the list that they were made for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from django.conf import settings
from django.core import signing
from rest_framework import serializers

from infra.errors import FieldError, ValidationFailed

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
Row = TypeVar("Row")
Key = list[int] | list[int | str]


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list; it may be short or empty while `next_key` is set."""

    rows: Sequence[Row]
    next_key: Key | None


class CursorCodec:
    """Writes and reads the cursors of one list.

    `scope` names what the cursor is bound to: the user, the path and the filters. A cursor of another scope, an
    altered one and one that is too old are refused alike. `parameter` names it in the query. It is good for a day, or
    for as long as what it points to where `expires` is false.
    """

    def __init__(self, *scope: object, parameter: str = "cursor", expires: bool = True) -> None:
        self._salt = "floodgate.cursor:" + repr(scope)
        self._field = f"query:{parameter}"
        self._expires = expires

    def encode(self, key: Key | None) -> str | None:
        """Return the cursor after `key`, or None at the end of the list."""
        return None if key is None else signing.dumps(key, salt=self._salt)

    def decode(self, cursor: str | None) -> Key | None:
        """Return the key that the cursor stands for; raises ValidationFailed."""
        if not cursor:
            return None
        try:
            key = signing.loads(cursor, salt=self._salt, max_age=settings.CURSOR_MAX_AGE_S if self._expires else None)
        except (signing.BadSignature, ValueError) as error:
            raise ValidationFailed(
                "The cursor is not valid for this list.",
                errors=[FieldError(self._field, "invalid_cursor", "The cursor is not valid for this list.")],
            ) from error
        return list(key)


class PageQuery(serializers.Serializer[object]):
    """`limit` and `cursor`; lists with filters subclass it together with `QuerySerializer`."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT, required=False)
    cursor = serializers.CharField(max_length=1000, required=False, allow_blank=False)
