"""The one parser of the API: strict JSON in UTF-8, bounded in size and depth."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.parsers import BaseParser

from infra.errors import BadRequest, FieldError, PayloadTooLarge, ValidationFailed


class StrictJSONParser(BaseParser):
    """Accepts RFC 8259 JSON only: no NaN, no doubled member names, no lone surrogates, 64 KiB at most."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the decoded body; raises BadRequest or PayloadTooLarge. An empty body is `{}`."""
        return decode_body(stream.read(settings.MAX_BODY_BYTES + 1))


def decode_body(raw: bytes) -> object:
    """Decode a body of the usual size; raises BadRequest or PayloadTooLarge. An empty body is `{}`."""
    if len(raw) > settings.MAX_BODY_BYTES:
        raise PayloadTooLarge(f"A body may have {settings.MAX_BODY_BYTES} bytes.")
    return decode_json(raw)


def decode_json(raw: bytes) -> object:
    """Decode a body; raises BadRequest for what is not JSON. An empty body is `{}`."""
    if not raw:
        return {}
    try:
        text = raw.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_without_doubles)
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deep.") from error
    except ValueError as error:
        raise BadRequest("The body is not valid JSON in UTF-8.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object_without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValidationFailed(
            "An object names a member twice.",
            errors=[FieldError("", "duplicate_member", "An object names a member twice.")],
        )
    return result
