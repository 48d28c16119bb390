"""How the stock of a SKU is claimed: `merged` unless the staff have chosen otherwise for it.

    in_force      what this process believes that the staff have chosen
    choosing      the staff's choice
    merged        a batch of claims at once; the default, and the verdict whenever another strategy comes to none
    alone         one order in one transaction, each of its SKUs taken as it asks: `optimistic`, `pessimistic`, `lock`
    sku_lock      the Redis lock of `lock`
    queued        `queue`: a request waits for its turn, one consumer serves all processes
    queue         the Redis side of that

Every write to a stock row is relative, guarded by what is left, and raises its version, whatever the strategy. So
strategies mix, within one order too, and are switched while they are in use: a process that has not heard of a switch
claims as before, and sells no unit too many.
"""

from collections.abc import Sequence
from datetime import datetime

from apps.inventory.domain import Strategy, longest_waiting
from apps.inventory.services.strategies import metrics
from apps.inventory.services.strategies.alone import hold_alone
from apps.inventory.services.strategies.in_force import strategies_of, strategy_of
from apps.inventory.services.strategies.merged import Refusals
from apps.inventory.services.strategies.queued import hold_in_queue
from apps.inventory.types import Claim

__all__ = ["hold_as_chosen", "strategy_of"]


def hold_as_chosen(alias: str, claims: Sequence[Claim], *, now: datetime) -> Refusals:
    """Hold the one claim in one database by the strategies of its SKUs; return its shortages, () meaning held.

    All of it or nothing: whatever the strategies, it is one transaction. Raises ReservationConflict; Overloaded, with
    nothing taken and nothing to come, when its turn in the queue did not come; OutcomeUnknown when a queue was lost.
    """
    [claim] = claims
    slowest = longest_waiting(strategies_of(claim).values())
    hold = hold_in_queue if slowest is Strategy.QUEUE else hold_alone
    shortages = hold(alias, claim, now=now)
    metrics.CLAIMS.labels(slowest, "short" if shortages else "held").inc()
    return {claim.order_id: shortages}
