"""How the OpenAPI schema tells of idempotency keys."""

from typing import Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from infra.idempotency.keys import HEADER, REPLAYED_HEADER

REQUIRED_KEY: Final = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description="1 to 255 visible ASCII characters, one for each thing that is meant: a repeat gets the first answer.",
    pattern="^[!-~]{1,255}$",
)
OPTIONAL_KEY: Final = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters: a repeat with the same key gets the first answer again.",
    pattern="^[!-~]{1,255}$",
)


def replayed_header(*statuses: int) -> OpenApiParameter:
    """Return the header of answers that are repeats."""
    return OpenApiParameter(
        REPLAYED_HEADER,
        {"type": "string", "enum": ["true"]},
        OpenApiParameter.HEADER,
        response=list(statuses),
        description="There when this is the first answer once more.",
    )
