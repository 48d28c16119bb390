"""Refusals of flash sales and coupons."""

from collections.abc import Mapping

from infra.errors import Code, DomainError, InvalidState, NotFound, PermissionDenied


class SaleNotFound(NotFound):
    """There is no such sale, or it is not shown."""

    title = "Sale not found"


class TicketNotFound(NotFound):
    """This shopper has no such ticket."""

    title = "Ticket not found"


class SaleNotStarted(DomainError):
    """The sale has not begun."""

    code = Code.SALE_NOT_STARTED
    title = "Sale not started"


class SaleEnded(DomainError):
    """The sale is over."""

    code = Code.SALE_ENDED
    title = "Sale ended"


class SalePaused(InvalidState):
    """The staff have paused the sale; it may go on."""

    title = "Sale paused"


class SoldOut(DomainError):
    """No shard that can be reached, and no transfer, has as many units left. What is not paid for comes back."""

    code = Code.SOLD_OUT
    title = "Sold out"


class PurchaseLimitReached(DomainError):
    """The buyer has, or would have, more units than one may buy."""

    code = Code.PURCHASE_LIMIT_REACHED
    title = "Purchase limit reached"


class PurchaseTokenInvalid(DomainError):
    """The purchase token is missing, altered, over, or another user's or sale's."""

    code = Code.PURCHASE_TOKEN_INVALID
    title = "Purchase token invalid"


class BuyerBlocked(PermissionDenied):
    """The staff have blocked this user or network in the sale."""

    title = "Buying is not allowed"


class QueueUnavailable(Exception):
    """The queue gave no answer; what was asked of it may have been done."""


class SaleRefused(Exception):
    """A sale cannot be made or changed as the staff asked; the message says why."""


class SaleChanged(Exception):
    """Somebody else changed the sale first: read it again and decide anew."""


class AllotmentShort(Exception):
    """Some allotment has fewer units left than the batch wants, or is closed; the caller rolls back."""


class PurchasesChanged(Exception):
    """Another batch wrote one of these buyers' purchases first; the caller rolls back and reads again."""


class TransferMismatch(Exception):
    """The books do not cover what a transfer or a claim says. Only a change of rows by hand leads here."""


class CouponNotFound(NotFound):
    """There is no such coupon to be claimed."""

    title = "Coupon not found"


class CouponNotClaimable(InvalidState):
    """The coupon cannot be claimed yet, or any more."""

    title = "Coupon not claimable"


class CouponExhausted(DomainError):
    """All coupons of the template have been claimed."""

    code = Code.COUPON_EXHAUSTED
    title = "Coupon exhausted"


class TemplateRefused(Exception):
    """A coupon template cannot be made or changed as the staff asked; `problems` says by field why."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems.items()))
        self.problems = dict(problems)


class CouponsChanged(Exception):
    """Some coupons are no longer held as they were read; the caller rolls back and reads again."""
