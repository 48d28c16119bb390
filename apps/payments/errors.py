"""Refusals of payments, and what can go wrong at a provider."""

from infra.errors import Code, DomainError


class PaymentNotFound(DomainError):
    """This shopper's order has no such payment or refund."""

    code = Code.NOT_FOUND
    title = "Payment not found"


class SignatureInvalid(DomainError):
    """A callback was not signed by the provider, or its signature is stale."""

    code = Code.SIGNATURE_INVALID
    title = "Signature invalid"


class CallbackMalformed(DomainError):
    """A callback carries a good signature and a body that means nothing here."""

    code = Code.BAD_REQUEST
    title = "Malformed callback"


class ProviderTimeout(DomainError):
    """The provider did not answer in time; the payment stays open, and the same key goes on with it."""

    code = Code.UPSTREAM_TIMEOUT
    title = "Provider timed out"


class ProviderUnavailable(DomainError):
    """The provider cannot be reached or fails; the payment stays open, and the same key goes on with it."""

    code = Code.UPSTREAM_UNAVAILABLE
    title = "Provider unavailable"


class ProviderRefused(Exception):
    """The provider answered for good that it will not do this; trying again is of no use."""


class UnknownAtProvider(ProviderRefused):
    """The provider has nothing under this reference."""


class AttemptChanged(Exception):
    """Somebody else changed the attempt or refund first: read it again and decide anew."""


class CallbackRepeated(Exception):
    """This delivery was stored before; its effect is there."""


class RefundTooLarge(DomainError):
    """More than was captured and not yet refunded or requested."""

    code = Code.INVALID_STATE
    title = "Refund too large"
