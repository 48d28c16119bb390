"""What the sandbox refuses, with the HTTP status of each refusal."""

from http import HTTPStatus


class SandboxError(Exception):
    """A refusal that the caller is told as JSON: ``{"error": {"code", "detail"}}``."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotAuthenticated(SandboxError):
    """The merchant's key is missing or wrong."""

    status = HTTPStatus.UNAUTHORIZED
    code = "not_authenticated"


class UnknownReference(SandboxError):
    """No such payment, refund or page."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"


class MethodNotAllowed(SandboxError):
    """The page exists and does not take this method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed"


class Conflict(SandboxError):
    """The payment's or refund's state, or an earlier request under the same reference, does not allow this."""

    status = HTTPStatus.CONFLICT
    code = "conflict"


class BodyTooLarge(SandboxError):
    """The body is larger than any request of this service."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body_too_large"


class UnsupportedMediaType(SandboxError):
    """The body is neither JSON nor, where a browser posts, a form."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
