"""Refusals of orders."""

from infra.errors import Code, DomainError, InvalidState


class OrderNotFound(DomainError):
    """This shopper has no such order."""

    code = Code.NOT_FOUND
    title = "Order not found"


class InsufficientStock(DomainError):
    """Some SKUs are short; `errors` names each, at its first line."""

    code = Code.INSUFFICIENT_STOCK
    title = "Insufficient stock"


class PriceChanged(DomainError):
    """The total is not the one that the client expected."""

    code = Code.PRICE_CHANGED
    title = "Price changed"


class CurrencyMismatch(DomainError):
    """The SKUs are priced in different currencies."""

    code = Code.CURRENCY_MISMATCH
    title = "Currency mismatch"


class CouponNotApplicable(DomainError):
    """A coupon cannot be used for this order."""

    code = Code.COUPON_NOT_APPLICABLE
    title = "Coupon not applicable"


class InsufficientPoints(DomainError):
    """The shopper has fewer points than asked for."""

    code = Code.INSUFFICIENT_POINTS
    title = "Insufficient points"


class OrderNotCancellable(DomainError):
    """The order is past the point where it can be cancelled."""

    code = Code.INVALID_STATE
    title = "Order not cancellable"


class OrderNotPayable(DomainError):
    """The order does not wait for a payment."""

    code = Code.INVALID_STATE
    title = "Order not payable"


class OrderNotRefundable(DomainError):
    """The order has no money to give back, or all of it is on its way already."""

    code = Code.INVALID_STATE
    title = "Order not refundable"


class RefundNotOpen(InvalidState):
    """The refund is not in the state that this decision is for."""

    title = "Refund not open"


class OrderChanged(Exception):
    """Somebody else changed the order first: read it again and decide anew."""
