"""What is refused of signed requests, and of changes to their clients."""

from infra.errors import Code, DomainError
from infra.signing.canonical import SCHEME


class RequestSignatureInvalid(DomainError):
    """The signature is not genuine, too old or used before; which of them is told, nothing of the key is."""

    code = Code.SIGNATURE_INVALID
    title = "Signature invalid"
    challenge = f'{SCHEME} realm="floodgate"'


class TooManyKeys(Exception):
    """The client has two keys already."""


class NoSuchKey(Exception):
    """The client has no such key that is still good."""
