"""Endpoints of points: what one has, and how it came about."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.promotions.points.domain import OF_NO_ORDER, PointsKind
from apps.promotions.points.selectors import movements_of, points_of
from apps.promotions.points.types import Movement, PointsView
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.pagination import CursorCodec, PageQuery
from infra.api.rendering import rfc3339
from infra.api.serializers import QuerySerializer
from infra.api.views import ApiView


class LedgerQuery(QuerySerializer, PageQuery):
    """Page of the ledger."""


class ExpiringSerializer(serializers.Serializer[Any]):
    """Points that expire together."""

    points = serializers.IntegerField(min_value=1)
    expires_at = serializers.DateTimeField()


class PointsSerializer(serializers.Serializer[Any]):
    """What a shopper has."""

    balance = serializers.IntegerField(min_value=0, help_text="What can be spent.")
    owed = serializers.IntegerField(
        min_value=0, help_text="What a refund should have taken back when it was spent; the next points pay it off."
    )
    expiring = ExpiringSerializer(many=True, help_text="All that the balance is made of, the soonest to expire first.")


class MovementSerializer(serializers.Serializer[Any]):
    """A movement of points."""

    id = serializers.CharField()
    kind = serializers.ChoiceField(choices=[word.value for word in PointsKind])
    points = serializers.IntegerField(help_text="What it added to the balance; negative where it took from it.")
    owed = serializers.IntegerField(help_text="What it added to what is owed.")
    order_id = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField()


class MovementPageSerializer(serializers.Serializer[Any]):
    """A page of the ledger."""

    results = MovementSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class PointsEndpoint(ApiView):
    """/users/me/points."""

    permission_classes = [IsShopper]

    @extend_schema(operation_id="points_show", summary="Show what points one has", responses={200: PointsSerializer})
    def get(self, request: Request) -> Response:
        """Return balance and lots."""
        return Response(points_json(points_of(current_shopper(request).user_id)))


class LedgerEndpoint(ApiView):
    """/users/me/points/ledger."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="points_ledger",
        summary="List the movements of one's points, newest first",
        parameters=[LedgerQuery],
        responses={200: MovementPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of movements."""
        query = LedgerQuery.read(request.query_params)
        user_id = current_shopper(request).user_id
        codec = CursorCodec(user_id, request.path)
        page = movements_of(user_id, limit=query["limit"], before=codec.decode(query.get("cursor")))
        return Response({"results": [movement_json(row) for row in page.rows], "next": codec.encode(page.next_key)})


def points_json(view: PointsView) -> dict[str, object]:
    """Return what a shopper has, as the contract shows it."""
    return {
        "balance": view.balance,
        "owed": view.owed,
        "expiring": [
            {"points": points, "expires_at": rfc3339(datetime(day.year, day.month, day.day, tzinfo=UTC))}
            for points, day in view.lots
        ],
    }


def movement_json(movement: Movement) -> dict[str, object]:
    """Return a movement; what caused it is the order's, and a grant's reason stays with the staff."""
    return {
        "id": f"pts_{movement.id}_{movement.kind}_{movement.n}",
        "kind": str(movement.kind),
        "points": movement.points,
        "owed": movement.owed,
        "order_id": None if movement.kind in OF_NO_ORDER else str(movement.id),
        "at": rfc3339(movement.at),
    }
