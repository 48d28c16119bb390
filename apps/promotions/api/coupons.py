"""Endpoints of coupons: what can be claimed, claiming, one's own."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.promotions import selectors
from apps.promotions.domain import CouponKind, CouponState
from apps.promotions.services import claim_coupon
from apps.promotions.types import CouponTerms, Template
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.pagination import CursorCodec, PageQuery
from infra.api.rendering import rfc3339
from infra.api.serializers import QuerySerializer, StrictSerializer
from infra.api.views import ApiView, parse_id
from infra.idempotency.keys import HEADER, REPLAYED_HEADER, read_key, request_key
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

_CREATED: Final = 201
_TEMPLATE_ID: Final = OpenApiParameter(
    "template_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="From the list."
)


class CouponQuery(QuerySerializer, PageQuery):
    """Page of a list of coupons."""


class ClaimSerializer(StrictSerializer):
    """The body of POST /coupons/{id}/claim: nothing."""


class CouponScopeSerializer(serializers.Serializer[Any]):
    """What a coupon is for; nothing at all stands for all goods."""

    categories = serializers.ListField(child=serializers.CharField())
    products = serializers.ListField(child=serializers.CharField())
    skus = serializers.ListField(child=serializers.CharField())


class CouponTermsSerializer(serializers.Serializer[Any]):
    """What a coupon takes off, and when."""

    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=[kind.value for kind in CouponKind])
    currency = serializers.CharField(min_length=3, max_length=3)
    amount = serializers.CharField(allow_null=True, help_text="What an `amount` coupon takes off.")
    percent = serializers.CharField(allow_null=True, help_text="What a `percent` coupon takes off, of 100.")
    max_discount = serializers.CharField(allow_null=True, help_text="What it takes off at most.")
    threshold = serializers.CharField(help_text="What the goods that it is for must come to at least.")
    scope = CouponScopeSerializer()
    stackable = serializers.BooleanField(help_text="Whether it goes together with other stackable ones in one order.")


class ClaimableCouponSerializer(CouponTermsSerializer):
    """What can be claimed."""

    id = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    valid_days = serializers.IntegerField(allow_null=True, help_text="Ends so long after the claim, if that is sooner.")
    per_user_limit = serializers.IntegerField(min_value=1)
    left = serializers.IntegerField(min_value=0, allow_null=True, help_text="A few seconds old; null: no limit.")


class ClaimableCouponListSerializer(serializers.Serializer[Any]):
    """A page of what can be claimed."""

    results = ClaimableCouponSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ClaimedCouponSerializer(serializers.Serializer[Any]):
    """The coupon that a claim has made."""

    coupon_id = serializers.CharField()


class HeldCouponSerializer(CouponTermsSerializer):
    """A coupon of one's own."""

    coupon_id = serializers.CharField()
    template_id = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in CouponState])
    order_id = serializers.CharField(allow_null=True, help_text="The order that it is redeemed for.")
    claimed_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class HeldCouponListSerializer(serializers.Serializer[Any]):
    """A page of one's coupons."""

    results = HeldCouponSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class CouponListView(ApiView):
    """GET /coupons."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="coupons_list",
        summary="List the coupons that can be claimed, newest first",
        parameters=[CouponQuery],
        responses={200: ClaimableCouponListSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of what can be claimed."""
        query = CouponQuery.read(request.query_params)
        codec = CursorCodec("coupons")
        key = codec.decode(query.get("cursor"))
        found = [
            template
            for template in selectors.claimable_templates(now=timezone.now())
            if key is None or template.id < int(key[0])
        ]
        page, more = found[: query["limit"]], len(found) > query["limit"]
        return Response(
            {
                "results": [_claimable_json(template) for template in page],
                "next": codec.encode([page[-1].id]) if more else None,
            }
        )


class ClaimCouponView(ApiView):
    """POST /coupons/{id}/claim."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="coupons_claim",
        summary="Claim a coupon",
        parameters=[_TEMPLATE_ID, OPTIONAL_KEY, replayed_header(201)],
        request=ClaimSerializer,
        responses={201: OpenApiResponse(ClaimedCouponSerializer, description="The coupon, which is yours now.")},
    )
    def post(self, request: Request, template_id: str) -> Response:
        """Claim a coupon, or return the one that this key has claimed."""
        text = read_key(request.headers.get(HEADER), required=False)
        ClaimSerializer(data=request.data).is_valid(raise_exception=True)
        user_id = current_shopper(request).user_id
        key = None
        if text is not None:
            key = request_key(user_id=user_id, method="POST", path=request.path, key=text, body=request.data)
        claimed = claim_coupon(
            user_id=user_id, template_id=parse_id(template_id, what="coupon"), key=key, now=timezone.now()
        )
        headers = {REPLAYED_HEADER: "true"} if claimed.replayed else None
        return Response({"coupon_id": str(claimed.coupon_id)}, status=_CREATED, headers=headers)


class OwnCouponsView(ApiView):
    """GET /users/me/coupons."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="list_own_coupons",
        summary="List one's coupons, newest first",
        parameters=[CouponQuery],
        responses={200: HeldCouponListSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the shopper's coupons."""
        query = CouponQuery.read(request.query_params)
        user_id, now = current_shopper(request).user_id, timezone.now()
        codec = CursorCodec(user_id, request.path)
        key = codec.decode(query.get("cursor"))
        found = selectors.coupons_of(user_id, before_id=None if key is None else int(key[0]), limit=query["limit"] + 1)
        page, more = found[: query["limit"]], len(found) > query["limit"]
        templates = selectors.templates_of({coupon.template_id for coupon in page})
        return Response(
            {
                "results": [
                    {
                        **_terms_json(templates[coupon.template_id]),
                        "coupon_id": str(coupon.id),
                        "template_id": str(coupon.template_id),
                        "state": selectors.coupon_state(coupon, now=now),
                        "order_id": None if coupon.order_id is None else str(coupon.order_id),
                        "claimed_at": rfc3339(coupon.claimed_at),
                        "expires_at": rfc3339(coupon.expires_at),
                    }
                    for coupon in page
                ],
                "next": codec.encode([page[-1].id]) if more else None,
            }
        )


def _claimable_json(template: Template) -> dict[str, object]:
    return {
        **_terms_json(template),
        "id": str(template.id),
        "starts_at": rfc3339(template.starts_at),
        "ends_at": rfc3339(template.ends_at),
        "valid_days": template.valid_days,
        "per_user_limit": template.per_user_limit,
        "left": template.left,
    }


def _terms_json(template: Template) -> dict[str, object]:
    terms: CouponTerms = template.terms
    return {
        "name": template.name,
        "kind": str(terms.kind),
        "currency": terms.currency,
        "amount": str(terms.amount) if terms.kind == CouponKind.AMOUNT else None,
        "percent": str(terms.percent) if terms.kind == CouponKind.PERCENT else None,
        "max_discount": None if terms.max_discount is None else str(terms.max_discount),
        "threshold": str(terms.threshold),
        "scope": {
            "categories": sorted(terms.categories),
            "products": [str(product_id) for product_id in sorted(terms.products)],
            "skus": sorted(terms.skus),
        },
        "stackable": terms.stackable,
    }
