"""Errors that a client is told, and the fixed list of their codes (the API contract).

Every layer raises a `DomainError`; one place renders it (`infra.api.problems`). A code belongs to one HTTP status.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final


class Code(StrEnum):
    """All codes that an error answer may carry."""

    BAD_REQUEST = "bad_request"
    VALIDATION_ERROR = "validation_error"
    CURRENCY_MISMATCH = "currency_mismatch"
    NOT_AUTHENTICATED = "not_authenticated"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_INVALID = "token_invalid"
    TOKEN_REUSED = "token_reused"
    CREDENTIALS_INVALID = "credentials_invalid"
    SIGNATURE_INVALID = "signature_invalid"
    PERMISSION_DENIED = "permission_denied"
    PURCHASE_TOKEN_INVALID = "purchase_token_invalid"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    LOGIN_TAKEN = "login_taken"
    INSUFFICIENT_STOCK = "insufficient_stock"
    SOLD_OUT = "sold_out"
    PURCHASE_LIMIT_REACHED = "purchase_limit_reached"
    SALE_NOT_STARTED = "sale_not_started"
    SALE_ENDED = "sale_ended"
    COUPON_NOT_APPLICABLE = "coupon_not_applicable"
    COUPON_EXHAUSTED = "coupon_exhausted"
    INSUFFICIENT_POINTS = "insufficient_points"
    PRICE_CHANGED = "price_changed"
    INVALID_STATE = "invalid_state"
    LIMIT_REACHED = "limit_reached"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    REQUEST_IN_PROGRESS = "request_in_progress"
    REQUEST_TIMEOUT = "request_timeout"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    HEADERS_TOO_LARGE = "headers_too_large"
    RATE_LIMITED = "rate_limited"
    INTERNAL_ERROR = "internal_error"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    OVERLOADED = "overloaded"
    SHARD_UNAVAILABLE = "shard_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


_CODES_BY_STATUS: Final[Mapping[int, Sequence[Code]]] = {
    400: (Code.BAD_REQUEST, Code.VALIDATION_ERROR, Code.CURRENCY_MISMATCH),
    401: (
        Code.NOT_AUTHENTICATED,
        Code.TOKEN_EXPIRED,
        Code.TOKEN_INVALID,
        Code.TOKEN_REUSED,
        Code.CREDENTIALS_INVALID,
        Code.SIGNATURE_INVALID,
    ),
    403: (Code.PERMISSION_DENIED, Code.PURCHASE_TOKEN_INVALID),
    404: (Code.NOT_FOUND,),
    405: (Code.METHOD_NOT_ALLOWED,),
    408: (Code.REQUEST_TIMEOUT,),
    409: (
        Code.LOGIN_TAKEN,
        Code.INSUFFICIENT_STOCK,
        Code.SOLD_OUT,
        Code.PURCHASE_LIMIT_REACHED,
        Code.SALE_NOT_STARTED,
        Code.SALE_ENDED,
        Code.COUPON_NOT_APPLICABLE,
        Code.COUPON_EXHAUSTED,
        Code.INSUFFICIENT_POINTS,
        Code.PRICE_CHANGED,
        Code.INVALID_STATE,
        Code.LIMIT_REACHED,
        Code.IDEMPOTENCY_KEY_REUSED,
        Code.REQUEST_IN_PROGRESS,
    ),
    413: (Code.PAYLOAD_TOO_LARGE,),
    414: (Code.URI_TOO_LONG,),
    415: (Code.UNSUPPORTED_MEDIA_TYPE,),
    431: (Code.HEADERS_TOO_LARGE,),
    429: (Code.RATE_LIMITED,),
    500: (Code.INTERNAL_ERROR,),
    502: (Code.UPSTREAM_UNAVAILABLE,),
    503: (Code.OVERLOADED, Code.SHARD_UNAVAILABLE, Code.OUTCOME_UNKNOWN),
    504: (Code.UPSTREAM_TIMEOUT,),
}
STATUS_BY_CODE: Final[Mapping[Code, int]] = {
    code: status for status, codes in _CODES_BY_STATUS.items() for code in codes
}

# Answers that ask the client to come again say when (the API contract), in seconds.
DEFAULT_RETRY_AFTER_S: Final[Mapping[Code, int]] = {
    Code.RATE_LIMITED: 1,
    Code.REQUEST_IN_PROGRESS: 1,
    Code.OVERLOADED: 1,
    Code.SHARD_UNAVAILABLE: 2,
    Code.OUTCOME_UNKNOWN: 2,
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one part of a request.

    `field` is an RFC 6901 pointer into the body (`/items/0/quantity`, `""` for the whole body), or `header:Name`,
    `query:name`, `path:name`. `extra` holds further members, such as the `available` quantity of a short SKU.
    """

    field: str
    code: str
    detail: str
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the member of the problem's `errors` list."""
        return {"field": self.field, "code": self.code, "detail": self.detail, **self.extra}


class DomainError(Exception):
    """A refusal that the client is told, with a code of the contract.

    Subclasses set `code` and a `title`; `detail` says what happened this time and holds no personal data.
    """

    code: ClassVar[Code]
    title: ClassVar[str] = ""
    challenge: ClassVar[str] = 'Bearer realm="floodgate"'
    """What `WWW-Authenticate` says where the status is 401."""

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail or self.code.value)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s if retry_after_s is not None else DEFAULT_RETRY_AFTER_S.get(self.code)

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return STATUS_BY_CODE[self.code]


class BadRequest(DomainError):
    """What came is not HTTP or not JSON."""

    code = Code.BAD_REQUEST
    title = "Bad request"


class ValidationFailed(DomainError):
    """The request is well formed and means nothing that can be done."""

    code = Code.VALIDATION_ERROR
    title = "Validation error"


class PermissionDenied(DomainError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED
    title = "Permission denied"


class NotFound(DomainError):
    """No such thing for this caller; another user's resource is not found either."""

    code = Code.NOT_FOUND
    title = "Not found"


class InvalidState(DomainError):
    """The thing exists and its state does not allow this."""

    code = Code.INVALID_STATE
    title = "Invalid state"


class LimitReached(DomainError):
    """The caller has as many of these as it may have."""

    code = Code.LIMIT_REACHED
    title = "Limit reached"


class RateLimited(DomainError):
    """Too many requests; come again later."""

    code = Code.RATE_LIMITED
    title = "Too many requests"


class PayloadTooLarge(DomainError):
    """The body is larger than the contract allows."""

    code = Code.PAYLOAD_TOO_LARGE
    title = "Payload too large"


class UnsupportedMediaType(DomainError):
    """The body is not of the media type that the contract asks for."""

    code = Code.UNSUPPORTED_MEDIA_TYPE
    title = "Unsupported media type"


class Overloaded(DomainError):
    """No room to take the request now; nothing was taken."""

    code = Code.OVERLOADED
    title = "Overloaded"


class ShardUnavailable(DomainError):
    """The database that holds what is asked for cannot be reached; nothing was taken."""

    code = Code.SHARD_UNAVAILABLE
    title = "Database unavailable"


class OutcomeUnknown(DomainError):
    """The answer to a commit was lost; repeating the same idempotency key settles it."""

    code = Code.OUTCOME_UNKNOWN
    title = "Outcome unknown"


class UpstreamUnavailable(DomainError):
    """A system outside this one did not do its part."""

    code = Code.UPSTREAM_UNAVAILABLE
    title = "Upstream unavailable"
