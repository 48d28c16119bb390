"""Access tokens in DRF."""

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request

from apps.users.authentication import shopper_of, shopper_of_client
from apps.users.types import Shopper
from infra.http.lane import lane_request
from infra.signing.canonical import is_signature


class ShopperAuthentication(BaseAuthentication):
    """Sets `request.user` to the `Shopper` of a bearer token, or to the one for whom a signed request acts."""

    def authenticate(self, request: Request) -> tuple[Shopper, None] | None:
        """Return the shopper, None without a token or signature; raises what refuses either."""
        authorization = request.META.get("HTTP_AUTHORIZATION")
        if authorization is not None and is_signature(authorization):
            return shopper_of_client(lane_request(request._request), authorization, now=timezone.now()), None
        shopper = shopper_of(authorization, now=timezone.now())
        return None if shopper is None else (shopper, None)

    def authenticate_header(self, request: Request) -> str:
        """Return what `WWW-Authenticate` says, which makes the refusal a 401."""
        return "Bearer"


def current_shopper(request: Request) -> Shopper:
    """Return whom a request comes from, in a view that takes shoppers only (`IsShopper`)."""
    shopper = request.user
    if not isinstance(shopper, Shopper):
        raise NotAuthenticated
    return shopper
