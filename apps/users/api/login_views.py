"""/users/me/logins and /users/me/codes: changing what a shopper logs in with, proven anew."""

from typing import ClassVar

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.users.api.authentication import current_shopper
from apps.users.api.serializers import (
    CodeRequestAnswer,
    ConfirmationSerializer,
    EmailChangeSerializer,
    PhoneChangeSerializer,
    ProofSerializer,
    UsernameChangeSerializer,
)
from apps.users.models import Customer
from apps.users.services.logins import begin_change, change_username, remove_login
from apps.users.services.proof import check_proof, request_confirmation
from apps.users.types import LoginKind, LoginName
from infra.api.client_address import client_address
from infra.api.views import ApiView

_NO_CONTENT = 204
_ACCEPTED = 202


class ConfirmationView(ApiView):
    """POST /users/me/codes."""

    @extend_schema(
        operation_id="request_confirmation_code", request=ConfirmationSerializer, responses={202: CodeRequestAnswer}
    )
    def post(self, request: Request) -> Response:
        """Send a code that confirms one change, to the shopper's own proven e-mail address or phone."""
        body = ConfirmationSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        request_confirmation(
            user_id=current_shopper(request).user_id,
            to=LoginKind(body.validated_data["to"]),
            address=client_address(request.META),
            now=timezone.now(),
        )
        return Response({"expires_in": settings.CODE_LIFETIME_S}, status=_ACCEPTED)


class _LoginView(ApiView):
    """A login of one kind."""

    takes_body_on_delete = True
    kind: ClassVar[LoginKind]

    @extend_schema(request=ProofSerializer, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Remove the login; an account keeps one with which it can be logged in to."""
        body = ProofSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        remove_login(customer=_proven(request, body), kind=self.kind, now=timezone.now())
        return Response(status=_NO_CONTENT)

    def begin(self, request: Request, body: ProofSerializer) -> Response:
        """Check the proof and send a code to the new login."""
        body.is_valid(raise_exception=True)
        _proven(request, body)
        begin_change(
            user_id=current_shopper(request).user_id,
            login=LoginName(self.kind, body.validated_data[self.kind]),
            address=client_address(request.META),
            now=timezone.now(),
        )
        return Response({"expires_in": settings.CODE_LIFETIME_S}, status=_ACCEPTED)


class UsernameView(_LoginView):
    """/users/me/logins/username."""

    kind = LoginKind.USERNAME

    @extend_schema(operation_id="change_username", request=UsernameChangeSerializer, responses={204: None})
    def put(self, request: Request) -> Response:
        """Take a username, in the place of the one before."""
        body = UsernameChangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        customer = _proven(request, body)
        change_username(user_id=customer.user_id, username=body.validated_data["username"], now=timezone.now())
        return Response(status=_NO_CONTENT)


class EmailView(_LoginView):
    """/users/me/logins/email."""

    kind = LoginKind.EMAIL

    @extend_schema(operation_id="change_email", request=EmailChangeSerializer, responses={202: CodeRequestAnswer})
    def put(self, request: Request) -> Response:
        """Send a code to a new e-mail address; it becomes the login, for the one before, at /auth/verify."""
        return self.begin(request, EmailChangeSerializer(data=request.data))


class PhoneView(_LoginView):
    """/users/me/logins/phone."""

    kind = LoginKind.PHONE

    @extend_schema(operation_id="change_phone", request=PhoneChangeSerializer, responses={202: CodeRequestAnswer})
    def put(self, request: Request) -> Response:
        """Send a code to a new phone; it becomes the login, for the one before, at /auth/verify."""
        return self.begin(request, PhoneChangeSerializer(data=request.data))


def _proven(request: Request, body: ProofSerializer) -> Customer:
    """Return the shopper who has proven themselves anew; raises CredentialsInvalid, TooManyFailures."""
    return check_proof(
        user_id=current_shopper(request).user_id,
        proof=body.proof,
        address=client_address(request.META),
        now=timezone.now(),
    )
