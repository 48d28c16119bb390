"""What consumers count; depths and ages are read from the databases (`collector`)."""

from prometheus_client import Counter

CONSUMED = Counter("floodgate_events_consumed_total", "Events taken by a group.", ["group"])
RETRIED = Counter("floodgate_events_retried_total", "Events that a group failed on and tries again.", ["group"])
DEAD_LETTERED = Counter("floodgate_events_dead_lettered_total", "Events given up by a group.", ["group"])
PARKED = Counter("floodgate_events_parked_total", "Events parked behind a dead letter.", ["group"])
CONSUMER_OUTAGES = Counter("floodgate_events_consumer_outages_total", "Batches put off by an outage.", ["group"])
