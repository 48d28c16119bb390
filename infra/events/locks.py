"""The row locks of dead letters."""

from django.db.models import QuerySet

from infra.events.envelope import Envelope
from infra.events.models import DeadLetter


def letters_of_aggregate_for_update(alias: str, group: str, envelope: Envelope) -> QuerySet[DeadLetter]:
    """Lock the dead letters of the envelope's aggregate, oldest version first.

    Whoever adds one behind them and whoever takes the last one away meet here, so that none is left behind.
    """
    return (
        DeadLetter.objects.using(alias)
        .select_for_update()
        .filter(
            slot=envelope.slot,
            group_name=group,
            aggregate=envelope.aggregate,
            aggregate_id=envelope.aggregate_id,
        )
        .order_by("aggregate_version")
    )
