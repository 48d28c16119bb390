"""Endpoints of payments and refunds of an order, and of the providers' callbacks."""

import json
from typing import Any, Final

from django.conf import settings
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.orders.api.serializers import MAX_REASON_LENGTH, OrderItemSerializer
from apps.orders.api.views import ORDER_ID
from apps.orders.domain import round_money
from apps.orders.selectors import get_order_row
from apps.orders.services.payment import receive_callback, start_payment
from apps.orders.services.refunds import request_refund
from apps.orders.types import PaymentRequest, RefundRequest
from apps.payments.errors import PaymentNotFound
from apps.payments.selectors import attempts_of, get_attempt, get_refund, refunds_of
from apps.payments.services import parse_reference
from apps.payments.types import AttemptStatus, AttemptView, RefundStatus, RefundView
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.rendering import rfc3339
from infra.api.serializers import StrictCharField, StrictSerializer
from infra.api.views import ApiView, parse_id
from infra.idempotency.keys import HEADER, REPLAYED_HEADER, read_key, request_key
from infra.idempotency.schema import REQUIRED_KEY, replayed_header

MAX_URL_LENGTH: Final = 1990
_NAME_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,31}\Z"


class StartPaymentSerializer(StrictSerializer):
    """The body of POST /orders/{id}/payments."""

    provider = StrictCharField(max_length=32)
    method = serializers.RegexField(_NAME_PATTERN, required=False)
    return_url = StrictCharField(max_length=MAX_URL_LENGTH, required=False)


class RequestRefundSerializer(StrictSerializer):
    """The body of POST /orders/{id}/refunds."""

    items = serializers.ListField(child=OrderItemSerializer(), min_length=1, max_length=settings.ORDER_MAX_LINES)
    reason = StrictCharField(max_length=MAX_REASON_LENGTH)


class NextActionSerializer(serializers.Serializer[Any]):
    """What the shopper's client does next."""

    type = serializers.ChoiceField(choices=["redirect", "qr", "sdk", "none"])
    url = serializers.CharField(required=False)


class PaymentSerializer(serializers.Serializer[Any]):
    """An attempt to pay an order."""

    payment_id = serializers.CharField()
    order_id = serializers.CharField()
    provider = serializers.CharField()
    method = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=[word.value for word in AttemptStatus])
    amount = serializers.CharField()
    currency = serializers.CharField(min_length=3, max_length=3)
    captured_amount = serializers.CharField()
    unexpected = serializers.BooleanField()
    expires_at = serializers.DateTimeField(allow_null=True)
    redirect_url = serializers.CharField(allow_null=True)
    next_action = NextActionSerializer()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PaymentListSerializer(serializers.Serializer[Any]):
    """All attempts to pay an order, oldest first; they are few, so there is no next page."""

    results = PaymentSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RefundItemSerializer(serializers.Serializer[Any]):
    """What a refund is for."""

    sku = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)


class RefundSerializer(serializers.Serializer[Any]):
    """Money on its way back; no items means the whole of a payment that the order could not take."""

    refund_id = serializers.CharField()
    order_id = serializers.CharField()
    payment_id = serializers.CharField()
    status = serializers.ChoiceField(choices=[word.value for word in RefundStatus])
    amount = serializers.CharField()
    currency = serializers.CharField(min_length=3, max_length=3)
    items = RefundItemSerializer(many=True)
    reason = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RefundListSerializer(serializers.Serializer[Any]):
    """All refunds of an order, oldest first; they are few, so there is no next page."""

    results = RefundSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ReceivedSerializer(serializers.Serializer[Any]):
    """The success answer to a delivery."""

    received = serializers.BooleanField()


_PAYMENT_ID: Final = OpenApiParameter(
    "payment_id", {"type": "string", "pattern": "^pay_[1-9][0-9]{0,18}_[1-9][0-9]{0,3}$"}, OpenApiParameter.PATH
)
_REFUND_ID: Final = OpenApiParameter(
    "refund_id", {"type": "string", "pattern": "^re_[1-9][0-9]{0,18}_[1-9][0-9]{0,3}$"}, OpenApiParameter.PATH
)
_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201], description="Where it is."
)


class PaymentsView(ApiView):
    """The attempts to pay an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_payments_list",
        summary="List the attempts to pay an order, oldest first",
        parameters=[ORDER_ID],
        responses={200: PaymentListSerializer},
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return all attempts."""
        attempts = attempts_of(_own_order_id(request, order_id))
        return Response({"results": [payment_json(attempt) for attempt in attempts], "next": None})

    @extend_schema(
        operation_id="orders_payments_start",
        summary="Start to pay an order",
        description="A new attempt supersedes an open one.",
        parameters=[ORDER_ID, REQUIRED_KEY, _LOCATION, replayed_header(201)],
        request=StartPaymentSerializer,
        responses={201: OpenApiResponse(PaymentSerializer, description="The attempt, as it was started.")},
    )
    def post(self, request: Request, order_id: str) -> Response:
        """Start an attempt, or return the one that this key has started."""
        key = read_key(request.headers.get(HEADER), required=True)
        serializer = StartPaymentSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data
        started = start_payment(
            PaymentRequest(
                key=request_key(
                    user_id=current_shopper(request).user_id,
                    method="POST",
                    path=request.path,
                    key=str(key),
                    body=request.data,
                ),
                order_id=_own_order_id(request, order_id),
                provider=wanted["provider"],
                method=wanted.get("method", ""),
                return_url=wanted.get("return_url", ""),
            ),
            render=lambda attempt: json.dumps(payment_json(attempt)).encode(),
            now=timezone.now(),
        )
        payment = json.loads(started.body)
        headers = {"Location": f"{request.path}/{payment['payment_id']}"}
        if started.replayed:
            headers[REPLAYED_HEADER] = "true"
        return Response(payment, status=201, headers=headers)


class OnePaymentView(ApiView):
    """One attempt to pay an order: the truth after a redirect."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_payments_show",
        summary="Show an attempt to pay an order",
        parameters=[ORDER_ID, _PAYMENT_ID],
        responses={200: PaymentSerializer},
    )
    def get(self, request: Request, order_id: str, payment_id: str) -> Response:
        """Return the attempt."""
        number = _own_order_id(request, order_id)
        reference = parse_reference(payment_id)
        if reference is None or reference.is_refund or reference.order_id != number:
            raise PaymentNotFound("There is no such payment.")
        attempt = get_attempt(number, reference.n)
        if attempt is None:
            raise PaymentNotFound("There is no such payment.")
        return Response(payment_json(attempt))


class RefundsView(ApiView):
    """The refunds of an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_refunds_list",
        summary="List the refunds of an order, oldest first",
        parameters=[ORDER_ID],
        responses={200: RefundListSerializer},
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return all refunds."""
        refunds = refunds_of(_own_order_id(request, order_id))
        return Response({"results": [refund_json(refund) for refund in refunds], "next": None})

    @extend_schema(
        operation_id="orders_refunds_request",
        summary="Ask for the money of some of an order's units",
        description=(
            "Approved at once before anything was sent; the staff decide afterwards. 409 `invalid_state` names, in "
            "`errors`, each item that asks for more than was bought and not yet refunded or requested."
        ),
        parameters=[ORDER_ID, REQUIRED_KEY, _LOCATION, replayed_header(201)],
        request=RequestRefundSerializer,
        responses={201: OpenApiResponse(RefundSerializer, description="The refund, as it was asked for.")},
    )
    def post(self, request: Request, order_id: str) -> Response:
        """Ask for a refund, or return the one that this key has asked for."""
        key = read_key(request.headers.get(HEADER), required=True)
        serializer = RequestRefundSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data
        requested = request_refund(
            RefundRequest(
                key=request_key(
                    user_id=current_shopper(request).user_id,
                    method="POST",
                    path=request.path,
                    key=str(key),
                    body=request.data,
                ),
                order_id=parse_id(order_id, what="order"),
                items=tuple((item["sku"], item["quantity"]) for item in wanted["items"]),
                reason=wanted["reason"],
            ),
            render=lambda refund: json.dumps(refund_json(refund)).encode(),
            now=timezone.now(),
        )
        refund = json.loads(requested.body)
        headers = {"Location": f"{request.path}/{refund['refund_id']}"}
        if requested.replayed:
            headers[REPLAYED_HEADER] = "true"
        return Response(refund, status=201, headers=headers)


class OneRefundView(ApiView):
    """One refund of an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_refunds_show",
        summary="Show a refund of an order",
        parameters=[ORDER_ID, _REFUND_ID],
        responses={200: RefundSerializer},
    )
    def get(self, request: Request, order_id: str, refund_id: str) -> Response:
        """Return the refund."""
        number = _own_order_id(request, order_id)
        reference = parse_reference(refund_id)
        if reference is None or not reference.is_refund or reference.order_id != number or reference.try_n != 1:
            raise PaymentNotFound("There is no such refund.")
        refund = get_refund(number, reference.n)
        if refund is None:
            raise PaymentNotFound("There is no such refund.")
        return Response(refund_json(refund))


class CallbackView(ApiView):
    """Where providers deliver, in their own formats; whoever signs is let in."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let any media type in: what counts is the signature over the bytes."""
        APIView.initial(self, request, *args, **kwargs)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Answer JSON, whatever the provider says it accepts."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="payments_callback",
        summary="Deliver a provider's callback",
        description="In the provider's own format, signed as the provider signs. Answered once it is stored durably.",
        parameters=[OpenApiParameter("provider", {"type": "string"}, OpenApiParameter.PATH)],
        request={"*/*": {"type": "string", "format": "binary", "maxLength": 262144}},
        responses={200: ReceivedSerializer},
        auth=[],
    )
    def post(self, request: Request, provider: str) -> Response:
        """Commit the delivery with its effect; an identical one again has none."""
        raw_body = request.body  # untouched bytes: the signature is over them
        receive_callback(provider=provider, headers=request.headers, raw_body=raw_body, now=timezone.now())
        return Response({"received": True})


def payment_json(attempt: AttemptView) -> dict[str, object]:
    """Return the contract's payment."""
    payable = attempt.status == AttemptStatus.REQUIRES_ACTION and attempt.redirect_url
    # What a shopper cannot be sent to is a code to be scanned, such as weixin://...
    kind = "redirect" if attempt.redirect_url.startswith("http") else "qr"
    return {
        "payment_id": attempt.payment_id,
        "order_id": str(attempt.order_id),
        "provider": attempt.provider,
        "method": attempt.method or None,
        "status": str(attempt.status),
        "amount": str(round_money(attempt.amount, attempt.currency)),
        "currency": attempt.currency,
        "captured_amount": str(round_money(attempt.captured_amount, attempt.currency)),
        "unexpected": attempt.unexpected,
        "expires_at": None if attempt.expires_at is None else rfc3339(attempt.expires_at),
        "redirect_url": attempt.redirect_url if kind == "redirect" else None,
        "next_action": {"type": kind, "url": attempt.redirect_url} if payable else {"type": "none"},
        "created_at": rfc3339(attempt.created_at),
        "updated_at": rfc3339(attempt.updated_at),
    }


def refund_json(refund: RefundView) -> dict[str, object]:
    """Return the contract's refund."""
    return {
        "refund_id": refund.refund_id,
        "order_id": str(refund.order_id),
        "payment_id": refund.payment_id,
        "status": str(refund.status),
        "amount": str(round_money(refund.amount, refund.currency)),
        "currency": refund.currency,
        "items": [{"sku": item.sku, "quantity": item.quantity} for item in refund.items],
        "reason": refund.reason,
        "created_at": rfc3339(refund.created_at),
        "updated_at": rfc3339(refund.updated_at),
    }


def _own_order_id(request: Request, order_id: str) -> int:
    """Return the id of the shopper's order in the path; raises OrderNotFound for everybody else's."""
    order = get_order_row(user_id=current_shopper(request).user_id, order_id=parse_id(order_id, what="order"))
    return int(order.id)
