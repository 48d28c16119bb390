"""What the users app refuses."""

from infra.errors import Code, DomainError, InvalidState, NotFound, Overloaded, RateLimited


class LoginTaken(DomainError):
    """The login belongs to another customer."""

    code = Code.LOGIN_TAKEN
    title = "Login taken"


class CredentialsInvalid(DomainError):
    """Login, password or code are wrong; which of them is not told."""

    code = Code.CREDENTIALS_INVALID
    title = "Credentials invalid"


class TokenExpired(DomainError):
    """The token's time is over."""

    code = Code.TOKEN_EXPIRED
    title = "Token expired"


class TokenInvalid(DomainError):
    """The token is not genuine, or its session has ended."""

    code = Code.TOKEN_INVALID
    title = "Token invalid"


class TokenReused(DomainError):
    """A spent refresh token came back, so somebody else may hold its successor: the session has been ended."""

    code = Code.TOKEN_REUSED
    title = "Token reused"


class TooManyFailures(RateLimited):
    """This login failed too often from this address; other addresses are not affected."""


class TooManyCodes(RateLimited):
    """So many codes were sent for this address that it has to wait."""


class RegistrationLapsed(Overloaded):
    """The registration took so long that it was taken back; nothing of it is left."""


class AddressNotFound(NotFound):
    """The shopper has no such address."""


class SessionNotFound(NotFound):
    """The shopper has no such session, or it has ended."""


class CustomerNotFound(NotFound):
    """There is no such customer."""


class ExportNotFound(NotFound):
    """The shopper has no such export of their data, or it has expired or is not ready."""


class AccountInUse(InvalidState):
    """The account has something under way that has to end before the account does."""


class RefusedInProduction(Exception):
    """Something for developers was asked of a production system."""
