"""Callbacks that need a look: settled by a person who has looked."""

from apps.payments.errors import PaymentNotFound
from apps.payments.models import Callback
from infra.sharding.places import place_of_order


def settle_alert(*, order_id: int, provider: str, account: str, event_id: str) -> None:
    """Take the flag off a callback that somebody has looked into; the row stays. Raises PaymentNotFound."""
    place = place_of_order(order_id)
    with place.atomic():
        rows = Callback.objects.at(place).filter(provider=provider, account=account, event_id=event_id, alert=True)
        if not rows.update(alert=False):
            raise PaymentNotFound("Nobody needs to look at this callback any more.")
