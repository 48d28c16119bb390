"""/auth: registering, logging in, tokens, devices."""

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.users.api.authentication import current_shopper
from apps.users.api.schema import SESSION_ID
from apps.users.api.serializers import (
    CodeLoginSerializer,
    CodeRequestAnswer,
    CodeRequestSerializer,
    LoginSerializer,
    LogoutSerializer,
    RefreshSerializer,
    RegisterAnswer,
    RegisterSerializer,
    SessionListAnswer,
    TokenAnswer,
    VerifySerializer,
)
from apps.users.domain import MalformedLogin, normalise_login
from apps.users.errors import CredentialsInvalid
from apps.users.selectors import live_sessions
from apps.users.services.code_login import log_in_by_code, request_login_code
from apps.users.services.registration import register
from apps.users.services.sessions import delete_other_sessions, delete_session, log_in, log_out, refresh
from apps.users.services.verification import verify_login
from apps.users.types import TokenPair
from infra.api.client_address import client_address
from infra.api.views import ApiView

_NO_CONTENT = 204
_CREATED = 201
_ACCEPTED = 202


class OpenView(ApiView):
    """An endpoint for clients without an access token; one that is sent all the same is not looked at."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class RegisterView(OpenView):
    """POST /auth/register."""

    @extend_schema(operation_id="register", request=RegisterSerializer, responses={201: RegisterAnswer})
    def post(self, request: Request) -> Response:
        """Register; a code is sent to each e-mail address and phone."""
        body = RegisterSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user_id = register(logins=body.logins, password=body.validated_data["password"], now=timezone.now())
        return Response({"user_id": str(user_id)}, status=_CREATED)


class VerifyView(OpenView):
    """POST /auth/verify."""

    @extend_schema(operation_id="verify_login", request=VerifySerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Make an e-mail address or phone a login by the code that was sent to it."""
        body = VerifySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        try:
            login = normalise_login(body.validated_data["login"])
        except MalformedLogin as error:
            raise CredentialsInvalid("The code is not valid.") from error
        verify_login(login=login, code=body.validated_data["code"], now=timezone.now())
        return Response(status=_NO_CONTENT)


class TokenView(OpenView):
    """POST /auth/token."""

    @extend_schema(operation_id="log_in", request=LoginSerializer, responses={200: TokenAnswer})
    def post(self, request: Request) -> Response:
        """Log in with a password."""
        body = LoginSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        pair = log_in(
            login=body.validated_data["login"],
            password=body.validated_data["password"],
            address=client_address(request.META),
            device=request.headers.get("User-Agent", ""),
            now=timezone.now(),
        )
        return Response(_pair(pair))


class CodeView(OpenView):
    """POST /auth/otp."""

    @extend_schema(operation_id="request_login_code", request=CodeRequestSerializer, responses={202: CodeRequestAnswer})
    def post(self, request: Request) -> Response:
        """Send a code that logs in by phone; the answer is the same for every phone, known or not."""
        body = CodeRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        request_login_code(phone=body.validated_data["phone"], address=client_address(request.META), now=timezone.now())
        return Response({"expires_in": settings.CODE_LIFETIME_S}, status=_ACCEPTED)


class CodeTokenView(OpenView):
    """POST /auth/token/otp."""

    @extend_schema(operation_id="log_in_by_code", request=CodeLoginSerializer, responses={200: TokenAnswer})
    def post(self, request: Request) -> Response:
        """Log in by phone and code; the first proof of a phone ends passwords and sessions set before it."""
        body = CodeLoginSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        pair = log_in_by_code(
            phone=body.validated_data["phone"],
            code=body.validated_data["code"],
            device=request.headers.get("User-Agent", ""),
            now=timezone.now(),
        )
        return Response(_pair(pair))


class RefreshView(OpenView):
    """POST /auth/token/refresh."""

    @extend_schema(operation_id="refresh_token", request=RefreshSerializer, responses={200: TokenAnswer})
    def post(self, request: Request) -> Response:
        """Spend a refresh token for the next pair."""
        body = RefreshSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(_pair(refresh(token=body.validated_data["refresh"], now=timezone.now())))


class LogoutView(OpenView):
    """POST /auth/logout."""

    @extend_schema(operation_id="log_out", request=LogoutSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """End the session of a refresh token; 204 whatever the token is."""
        body = LogoutSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        log_out(token=body.validated_data["refresh"], now=timezone.now())
        return Response(status=_NO_CONTENT)


class SessionListView(ApiView):
    """/auth/sessions."""

    @extend_schema(operation_id="list_sessions", responses={200: SessionListAnswer})
    def get(self, request: Request) -> Response:
        """List the devices that are logged in, the newest first."""
        sessions = live_sessions(current_shopper(request).user_id, now=timezone.now())
        answer = SessionListAnswer(
            {"results": sessions, "next": None}, context={"session_id": current_shopper(request).session_id}
        )
        return Response(answer.data)

    @extend_schema(operation_id="end_other_sessions", responses={204: None})
    def delete(self, request: Request) -> Response:
        """End all sessions but this one."""
        delete_other_sessions(
            user_id=current_shopper(request).user_id, keep=current_shopper(request).session_id, now=timezone.now()
        )
        return Response(status=_NO_CONTENT)


class SessionView(ApiView):
    """/auth/sessions/{id}."""

    @extend_schema(operation_id="end_session", parameters=[SESSION_ID], responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """End a session."""
        delete_session(user_id=current_shopper(request).user_id, session_id=session_id, now=timezone.now())
        return Response(status=_NO_CONTENT)


def _pair(pair: TokenPair) -> dict[str, object]:
    return {"access": pair.access, "refresh": pair.refresh, "expires_in": pair.expires_in}
