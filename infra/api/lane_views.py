"""Endpoints of the fast lane in Django's URLs, among the views that DRF serves and describes."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from infra.api.views import ApiView
from infra.http.lane import answer_through_django
from infra.http.messages import LaneRequest, LaneResponse


class LaneReadView(ApiView):
    """A public read, answered by an endpoint of the fast lane; DRF answers all other methods."""

    authentication_classes = []
    permission_classes = [AllowAny]
    endpoint: ClassVar[Callable[[LaneRequest], LaneResponse]]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer reads at once; errors are rendered by the problem middleware."""
        if request.method in ("GET", "HEAD"):
            return answer_through_django(type(self).endpoint, request)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Stand for the endpoint in the schema and among the allowed methods."""
        raise AssertionError("dispatch() answers GET")


class LanePostView(ApiView):
    """A POST answered by an endpoint of the fast lane, which also knows its shopper; DRF answers all other methods."""

    endpoint: ClassVar[Callable[[LaneRequest], LaneResponse]]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer POST at once; errors are rendered by the problem middleware."""
        if request.method == "POST":
            return answer_through_django(type(self).endpoint, request)
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Stand for the endpoint in the schema and among the allowed methods."""
        raise AssertionError("dispatch() answers POST")
