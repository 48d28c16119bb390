"""What relays count."""

from prometheus_client import Counter

PUBLISHED = Counter("floodgate_events_published_total", "Events published to the bus.", ["source"])
PUBLISH_FAILURES = Counter(
    "floodgate_events_publish_failures_total",
    "Batches that the bus or the database did not take.",
    ["source", "reason"],
)
REFEEDS = Counter("floodgate_events_refeeds_total", "Times the bus had lost its memory and was fed again.", ["source"])
