"""Who may read the log of events. Shoppers' tokens are not looked at here: a shopper sees no events of others."""

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.notifications.selectors import reader_of_token
from apps.notifications.types import EventReader

_SCHEME: Final = "bearer"


class EventsTokenAuthentication(BaseAuthentication):
    """Sets `request.user` to the `EventReader` of a subscription's bearer token."""

    def authenticate(self, request: Request) -> tuple[EventReader, None] | None:
        """Return the reader, None without a token; raises EventsTokenInvalid."""
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != _SCHEME:
            return None
        return reader_of_token(token.strip()), None

    def authenticate_header(self, request: Request) -> str:
        """Return what `WWW-Authenticate` says, which makes the refusal a 401."""
        return "Bearer"


class EventsTokenScheme(OpenApiAuthenticationExtension):
    """The scheme in the schema."""

    target_class = "apps.notifications.api.authentication.EventsTokenAuthentication"
    name = "eventsToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """Describe the scheme."""
        return {"type": "http", "scheme": "bearer", "description": "The events token of a subscription."}


class MayReadEvents(BasePermission):
    """Lets in whoever `event_reader` knows."""

    def has_permission(self, request: Request, view: object) -> bool:
        """Tell whether the request comes from a reader of events."""
        return isinstance(request.user, EventReader)


def event_reader(request: Request) -> EventReader:
    """Return which events a request may read: the one place that decides it.

    Another way to prove who asks (a signature) sets `request.user` to an `EventReader` in an authentication of its own.
    """
    if not isinstance(request.user, EventReader):
        raise NotAuthenticated
    return request.user
