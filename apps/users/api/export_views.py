"""/users/me/exports: all that is held of a shopper, for the shopper."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.users.api.authentication import current_shopper
from apps.users.api.schema import EXPORT_ID, EXPORT_LOCATION, EXPORT_PART
from apps.users.api.serializers import ExportAnswer, ExportListAnswer, ExportPartAnswer, ExportRequestSerializer
from apps.users.services.exports import get_export, get_export_part, list_exports, request_export
from infra.api.views import ApiView, parse_id
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

_ACCEPTED = 202


class ExportListView(IdempotentMixin, ApiView):
    """/users/me/exports."""

    @extend_schema(operation_id="list_exports", responses={200: ExportListAnswer})
    def get(self, request: Request) -> Response:
        """List the exports that are still kept, the newest first."""
        exports = list_exports(current_shopper(request).user_id)
        return Response(ExportListAnswer({"results": exports, "next": None}).data)

    @extend_schema(
        operation_id="request_export",
        request=ExportRequestSerializer,
        responses={202: ExportAnswer},
        parameters=[OPTIONAL_KEY, replayed_header(202), EXPORT_LOCATION],
    )
    def post(self, request: Request) -> Response:
        """Ask for all data, once a day; it is collected in the background."""
        return super().post(request)

    def post_once(self, request: Request) -> Response:
        """Ask for all data."""
        ExportRequestSerializer(data=request.data).is_valid(raise_exception=True)
        export = request_export(user_id=current_shopper(request).user_id, now=timezone.now())
        headers = {"Location": f"{request.path}/{export.id}"}
        return Response(ExportAnswer(export).data, status=_ACCEPTED, headers=headers)


class ExportView(ApiView):
    """/users/me/exports/{id}."""

    @extend_schema(operation_id="get_export", parameters=[EXPORT_ID], responses={200: ExportAnswer})
    def get(self, request: Request, export_id: str) -> Response:
        """Return how far an export is."""
        return Response(ExportAnswer(get_export(current_shopper(request).user_id, export_id)).data)


class ExportPartView(ApiView):
    """/users/me/exports/{id}/parts/{n}."""

    @extend_schema(
        operation_id="get_export_part", parameters=[EXPORT_ID, EXPORT_PART], responses={200: ExportPartAnswer}
    )
    def get(self, request: Request, export_id: str, n: str) -> Response:
        """Return a part of an export that is ready."""
        part = get_export_part(current_shopper(request).user_id, export_id, parse_id(n, what="part"))
        return Response(part.content)
