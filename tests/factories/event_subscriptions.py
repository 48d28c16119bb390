"""Test-only groups: `log` writes each event's effect once, `bare` as often as it comes (the control)."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import transaction

from infra.events.consumers import subscribe
from infra.events.envelope import Envelope
from infra.events.inbox import first_time
from infra.sharding.places import place_of_slot
from tests.factories.events import log_effects

# Long enough that a kill often hits a batch in the middle of its transaction, or between commit and acknowledgement.
MID_BATCH_S = 0.01


def log_once(envelopes: Sequence[Envelope]) -> None:
    """Have the effect of each event once."""
    alias = place_of_slot(envelopes[0].slot).alias
    with transaction.atomic(using=alias):
        fresh = first_time(alias, "log", envelopes, now=datetime.now(UTC))
        log_effects(alias, "log", fresh)
        time.sleep(MID_BATCH_S)
    time.sleep(MID_BATCH_S)


def log_each(envelopes: Sequence[Envelope]) -> None:
    """Have the effect as often as the event comes."""
    alias = place_of_slot(envelopes[0].slot).alias
    with transaction.atomic(using=alias):
        log_effects(alias, "bare", envelopes)
    time.sleep(MID_BATCH_S)


subscribe("log", {"test.moved"}, log_once)
subscribe("bare", {"test.moved"}, log_each)
