"""Refusals of orders."""

from infra.errors import Code, DomainError, InvalidState, NotFound, UpstreamUnavailable


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


class OrderMovedOn(InvalidState):
    """The order is not as it was when somebody decided what to do with it."""

    title = "Order changed"


class OrderNotShippable(InvalidState):
    """The order is not paid, or is being refunded, or has nothing left to ship."""

    title = "Order not shippable"


class OrderNotReceived(InvalidState):
    """The order cannot be confirmed as received: not all of it is on its way, or it never was."""

    title = "Order not shipped"


class ShipmentNotFound(NotFound):
    """There is no such shipment, or no such carrier."""

    title = "Shipment not found"


class ShipmentRefused(InvalidState):
    """The shipment is not in a state for this."""

    title = "Shipment not in a state for this"


class ReturnNotFound(NotFound):
    """This shopper's order has no such return."""

    title = "Return not found"


class NotReturnable(InvalidState):
    """More is to be sent back than was shipped lately and is neither back nor refunded; `errors` names each item."""

    title = "Not returnable"


class ReturnRefused(InvalidState):
    """The return is not in a state for this, or other units came than were announced."""

    title = "Return not in a state for this"


class CarrierUnavailable(UpstreamUnavailable):
    """A carrier cannot be reached or fails; what was asked of it is asked again."""

    title = "Carrier unavailable"


class CarrierRefused(Exception):
    """The carrier answered for good that it will not do this; trying again is of no use."""


class TrackRepeated(Exception):
    """This track event was stored before; its effect is there."""


class OrderChanged(Exception):
    """Somebody else changed the order first: read it again and decide anew."""


class OrderHeld(InvalidState):
    """The staff hold the order back; what lets its goods or money go has to wait."""

    title = "Order held back"


class OrderNotHoldable(InvalidState):
    """The order's life has ended; there is nothing to hold back."""

    title = "Order not holdable"


class AddressNotCorrectable(InvalidState):
    """The goods are on their way, or never will be: the address stays."""

    title = "Address not correctable"
