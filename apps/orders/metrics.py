"""Metrics of orders."""

from prometheus_client import Counter

TRACK_EVENTS = Counter(
    "floodgate_track_events_total", "Track events with a good signature, by what they tell.", ["carrier", "status"]
)
CARRIER_ALERTS = Counter(
    "floodgate_carrier_alerts_total",
    "What carriers say that the staff have to look at: refused bookings, cancelled shipments that move.",
    ["carrier", "kind"],
)
