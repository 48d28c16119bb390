"""What the OpenAPI schema says of access tokens and of the ids in paths."""

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from infra.signing.api import SIGNED_REQUEST, SIGNED_REQUEST_SCHEME


class ShopperAuthenticationScheme(OpenApiAuthenticationExtension):
    """A shopper's token, or a signed request that acts for one."""

    target_class = "apps.users.api.authentication.ShopperAuthentication"
    name = ["accessToken", SIGNED_REQUEST]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Say that either is enough."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        """Describe both."""
        return [
            {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            SIGNED_REQUEST_SCHEME,
        ]


SESSION_ID: Final = OpenApiParameter(
    "session_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[0-9a-f]{32}$", description="The session's id."
)
ADDRESS_ID: Final = OpenApiParameter(
    "address_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The address's id."
)
ADDRESS_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201], description="Where the address is."
)
EXPORT_ID: Final = OpenApiParameter(
    "export_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[0-9a-f]{32}$", description="The export's id."
)
EXPORT_PART: Final = OpenApiParameter(
    "n", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The part's number."
)
EXPORT_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[202], description="Where the export is."
)
SCHEMES: Final = (ShopperAuthenticationScheme,)
