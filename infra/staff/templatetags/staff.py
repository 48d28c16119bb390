"""Tags and filters of the staff's pages: tokens of forms, and the shop's own words in the reader's language."""

from typing import Final

from django import template
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from infra.staff.actions import new_token as make_token

register = template.Library()

# Statuses and events as the API calls them, and as a person reads them. What is not here is shown as it is.
WORDS: Final[dict[str, str | Promise]] = {
    "pending_payment": _("awaiting payment"),
    "paid": _("paid"),
    "fulfilling": _("fulfilling"),
    "shipped": _("shipped"),
    "completed": _("completed"),
    "cancelled": _("cancelled"),
    "expired": _("expired"),
    "refunding": _("refunding"),
    "refunded": _("refunded"),
    "unpaid": _("unpaid"),
    "authorized": _("authorized"),
    "partially_refunded": _("partly refunded"),
    "none": _("nothing yet"),
    "partial": _("in part"),
    "delivered": _("delivered"),
    "returned": _("returned"),
    "pending": _("pending"),
    "requires_action": _("awaits the buyer"),
    "processing": _("processing"),
    "succeeded": _("succeeded"),
    "failed": _("failed"),
    "requested": _("requested"),
    "approved": _("approved"),
    "rejected": _("rejected"),
    "placed": _("placed"),
    "payment_started": _("payment started"),
    "payment_updated": _("payment changed"),
    "payment_failed": _("payment failed"),
    "payment_unexpected": _("unexpected payment"),
    "imported": _("imported"),
    "address_corrected": _("address corrected"),
    "erased": _("erased"),
    "capture_requested": _("capture asked for"),
    "refund_requested": _("refund asked for"),
    "refund_approved": _("refund approved"),
    "refund_rejected": _("refund rejected"),
    "refund_failed": _("refund failed"),
    "shipment_prepared": _("shipment prepared"),
    "shipment_cancelled": _("shipment taken apart"),
    "shipment_updated": _("shipment moved"),
    "return_requested": _("return asked for"),
    "return_approved": _("return approved"),
    "return_rejected": _("return rejected"),
    "return_received": _("return received"),
    "prepared": _("prepared"),
    "handed_over": _("handed over"),
    "in_transit": _("in transit"),
    "received": _("received"),
    "draft": _("draft"),
    "scheduled": _("scheduled"),
    "running": _("running"),
    "paused": _("paused"),
    "ended": _("ended"),
    "live": _("live"),
    "blocked": _("blocked"),
    "registering": _("registering"),
}


@register.filter
def word(name: object) -> str:
    """Return a status or an event's kind in the reader's language."""
    return str(WORDS.get(str(name), name))


@register.simple_tag
def new_token() -> str:
    """Return a token for one form."""
    return make_token()
