"""Who may call an endpoint."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.users.types import Shopper


class IsShopper(BasePermission):
    """A shopper with a valid access token; staff accounts are not shoppers."""

    def has_permission(self, request: Request, view: object) -> bool:
        """Tell whether the request comes from a shopper."""
        return isinstance(request.user, Shopper)
