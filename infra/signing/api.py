"""Signed requests in DRF, for endpoints that are for other servers and know no shopper; and what a client may ask."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from infra.api.views import ApiView
from infra.http.lane import lane_request
from infra.signing.canonical import SCHEME, is_signature
from infra.signing.models import ActsFor
from infra.signing.verification import SignedCaller, caller_of

SIGNED_REQUEST: Final = "signedRequest"
SIGNED_REQUEST_SCHEME: Final[dict[str, Any]] = {
    "type": "http",
    "scheme": SCHEME,
    "description": "Requests of other servers, with On-Behalf-Of: see docs/request-signing.md.",
}


class ClientAuthentication(BaseAuthentication):
    """Sets `request.user` to the `SignedCaller` of a signed request."""

    def authenticate(self, request: Request) -> tuple[SignedCaller, None] | None:
        """Return the caller, None without a signature; see `caller_of` for what it raises."""
        authorization = request.META.get("HTTP_AUTHORIZATION", "")
        if not is_signature(authorization):
            return None
        return caller_of(lane_request(request._request), authorization, now=timezone.now()), None

    def authenticate_header(self, request: Request) -> str:
        """Return what `WWW-Authenticate` says, which makes the refusal a 401."""
        return SCHEME


class ClientAuthenticationScheme(OpenApiAuthenticationExtension):
    """What the schema says of signed requests."""

    target_class = "infra.signing.api.ClientAuthentication"
    name = SIGNED_REQUEST

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """Describe the scheme."""
        return SIGNED_REQUEST_SCHEME


class IsClient(BasePermission):
    """A client whose signed request was accepted."""

    def has_permission(self, request: Request, view: object) -> bool:
        """Tell whether the request comes from one."""
        return isinstance(request.user, SignedCaller)


class ClientAnswer(serializers.Serializer[Any]):
    """What a client may do."""

    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    acts_for = serializers.ChoiceField(choices=ActsFor.choices)
    per_second = serializers.IntegerField()
    burst = serializers.IntegerField()


class ClientView(ApiView):
    """/client."""

    authentication_classes = (ClientAuthentication,)
    permission_classes = (IsClient,)

    @extend_schema(operation_id="get_client", responses={200: ClientAnswer})
    def get(self, request: Request) -> Response:
        """Tell a client who it is and what it may do: the way to try out one's signing."""
        caller = request.user
        if not isinstance(caller, SignedCaller):
            raise NotAuthenticated
        client = caller.client
        answer = ClientAnswer(
            {
                "name": client.name,
                "scopes": sorted(client.scopes),
                "acts_for": client.acts_for,
                "per_second": client.limit.per_second,
                "burst": client.limit.burst,
            }
        )
        return Response(answer.data)
