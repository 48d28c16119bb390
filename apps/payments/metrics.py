"""Metrics of payments."""

from prometheus_client import Counter

CALLBACKS = Counter("floodgate_payment_callbacks_total", "Callbacks with a good signature.", ["provider", "result"])
ALERTS = Counter(
    "floodgate_payment_alerts_total",
    "Words of a provider that the staff have to look at: contradictions, mismatches, refunds that failed.",
    ["provider", "kind"],
)
