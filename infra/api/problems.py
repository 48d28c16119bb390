"""Problem answers (RFC 9457), rendered in one place for DRF, for plain views and for what fails outside any view."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response

from infra.errors import (
    BadRequest,
    Code,
    DomainError,
    FieldError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    RateLimited,
    ShardUnavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from infra.mysql.errors import CommitOutcomeUnknown, PoolExhausted
from infra.mysql.retry import is_deadlock, is_lock_wait_timeout
from infra.observability.scope import current_scope

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
_encode: Final = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class InternalError(DomainError):
    """Something unexpected; the log has it under the trace id."""

    code = Code.INTERNAL_ERROR
    title = "Internal error"


class NotAuthenticated(DomainError):
    """The request carries no token and needs one."""

    code = Code.NOT_AUTHENTICATED
    title = "Not authenticated"


class MethodNotAllowed(DomainError):
    """The path exists and does not take this method."""

    code = Code.METHOD_NOT_ALLOWED
    title = "Method not allowed"


def problem_bytes(error: DomainError) -> bytes:
    """Return the problem document."""
    return _encode(problem_body(error))


def problem_body(error: DomainError) -> dict[str, Any]:
    """Return the members of the problem document."""
    scope = current_scope()
    body: dict[str, Any] = {
        "type": f"urn:floodgate:problem:{error.code}",
        "title": error.title or error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.detail,
        "code": str(error.code),
        "trace_id": scope.trace_id if scope is not None else "",
    }
    if error.errors:
        body["errors"] = [entry.as_json() for entry in error.errors]
    return body


def problem_headers(error: DomainError) -> dict[str, str]:
    """Return the headers that go with the problem."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, error.retry_after_s))
    if error.status == 401:
        headers["WWW-Authenticate"] = error.challenge
    return headers


def problem_response(error: DomainError) -> HttpResponse:
    """Render the problem outside DRF."""
    return HttpResponse(
        problem_bytes(error),
        status=error.status,
        content_type=PROBLEM_MEDIA_TYPE,
        headers=problem_headers(error),
    )


def problem_handler(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Turn whatever a DRF view raised into a problem answer (setting `EXCEPTION_HANDLER`)."""
    error = as_domain_error(exc)
    headers = problem_headers(error)
    if isinstance(exc, drf.MethodNotAllowed):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    response = Response(problem_body(error), status=error.status, headers=headers, content_type=PROBLEM_MEDIA_TYPE)
    response.exception = True
    return response


def as_domain_error(exc: Exception) -> DomainError:
    """Return what the client is told about any exception; an unexpected one is logged with its trace id."""
    if isinstance(exc, DomainError):
        return exc
    if isinstance(exc, drf.APIException):
        return _from_drf(exc)
    if isinstance(exc, Http404):
        return NotFound("There is nothing at this address.")
    if isinstance(exc, DjangoPermissionDenied):
        return PermissionDenied("This is not allowed.")
    if isinstance(exc, RequestDataTooBig):
        return PayloadTooLarge("The body is too large.")
    if isinstance(exc, SuspiciousOperation):
        return BadRequest("The request is malformed.")
    if isinstance(exc, OperationalError):
        return _from_database(exc)
    _log.error("unexpected error", exc_info=exc)
    return InternalError("The error has been logged under this trace id.")


def _from_database(exc: OperationalError) -> DomainError:
    if isinstance(exc, CommitOutcomeUnknown):
        return OutcomeUnknown("The answer of the database was lost. Repeat the request with the same Idempotency-Key.")
    if isinstance(exc, PoolExhausted) or is_deadlock(exc) or is_lock_wait_timeout(exc):
        _log.warning("database overloaded: %s", exc)
        return Overloaded("Too many requests at once. Nothing was taken.")
    _log.warning("database unavailable: %s", exc)
    return ShardUnavailable("The database that holds this cannot be reached. Nothing was taken.")


def _from_drf(exc: drf.APIException) -> DomainError:
    if isinstance(exc, drf.ValidationError):
        return ValidationFailed("The request has invalid fields.", errors=list(_field_errors(exc.detail, "")))
    if isinstance(exc, drf.ParseError):
        return BadRequest("The body is not valid JSON.")
    if isinstance(exc, drf.NotAuthenticated | drf.AuthenticationFailed):
        return NotAuthenticated("Send an access token as a bearer token.")
    if isinstance(exc, drf.PermissionDenied):
        return PermissionDenied("This is not allowed.")
    if isinstance(exc, drf.NotFound):
        return NotFound("There is nothing at this address.")
    if isinstance(exc, drf.MethodNotAllowed):
        return MethodNotAllowed("This address does not take this method.")
    if isinstance(exc, drf.UnsupportedMediaType):
        return UnsupportedMediaType("Send the body as application/json.")
    if isinstance(exc, drf.Throttled):
        return RateLimited("Too many requests.", retry_after_s=1)
    if isinstance(exc, drf.NotAcceptable):
        return BadRequest("Answers are application/json only.")
    _log.error("unexpected API error", exc_info=exc)
    return InternalError("The error has been logged under this trace id.")


def escape_pointer(token: str) -> str:
    """Escape one reference token of an RFC 6901 pointer."""
    return token.replace("~", "~0").replace("/", "~1")


def _field_errors(detail: object, pointer: str) -> Iterator[FieldError]:
    """Walk DRF's nested error structure and yield flat errors with pointers."""
    if isinstance(detail, Mapping):
        for name, nested in detail.items():
            own = pointer if name == "non_field_errors" else f"{pointer}/{escape_pointer(str(name))}"
            yield from _field_errors(nested, own)
    elif isinstance(detail, Sequence) and not isinstance(detail, str):
        for index, nested in enumerate(detail):
            # A list of messages belongs to the field itself; a list of mappings has one entry for each element.
            own = f"{pointer}/{index}" if isinstance(nested, Mapping) else pointer
            yield from _field_errors(nested, own)
    else:
        yield FieldError(pointer, str(getattr(detail, "code", "invalid")), str(detail))
