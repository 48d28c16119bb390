"""How the OpenAPI schema tells of access tokens; apart from the views, which DRF's settings import."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class ShopperAuthenticationScheme(OpenApiAuthenticationExtension):
    """The bearer scheme."""

    target_class = "apps.users.api.authentication.ShopperAuthentication"
    name = "accessToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """Describe the scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


SCHEMES = (ShopperAuthenticationScheme,)
