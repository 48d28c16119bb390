"""Outbox, event bus, consumers, follow-ups."""

from config import env
from config.settings.observability import METRIC_COLLECTORS

# The bus's back end. `kafka` gets its place here when it comes; the redis one is that of a one-machine installation.
EVENT_BUS = env.text("FLOODGATE_EVENT_BUS", local="redis")
EVENT_BUS_BACKENDS = {"redis": "infra.events.redis_bus.RedisEventBus"}
# Keys of the redis back end begin with this, so that two installations can share a server.
EVENT_BUS_PREFIX = env.text("FLOODGATE_EVENT_BUS_PREFIX", local="floodgate")
# A Redis that hangs is given up after this long; relay and consumers then back off.
EVENT_BUS_TIMEOUT_S = 3.0
# A partition that holds this many entries takes no more until its groups have caught up: what is not published stays in
# the outbox, where there is room. 64 partitions of 10,000 entries are about 500 MB.
EVENT_PARTITION_MAX_ENTRIES = env.integer("FLOODGATE_EVENT_PARTITION_MAX_ENTRIES", default=10_000)

# Modules whose import registers subscriptions.
EVENT_CONSUMERS = ["apps.orders.consumers"]
# A partition (or a relay) whose owner died is free after this long; an owner renews three times in it.
EVENT_LEASE_S = env.number("FLOODGATE_EVENT_LEASE_S", default=6.0)
EVENT_BATCH = 200
# An idle relay or consumer looks this often, slowing down from the first to the second.
EVENT_POLL_MIN_S = 0.05
EVENT_POLL_MAX_S = 0.25
# An event that fails is tried this often, with growing pauses of up to EVENT_RETRY_MAX_DELAY_S, before it is
# dead-lettered. Outages (a database or Redis away) do not count: those are waited out.
EVENT_MAX_ATTEMPTS = env.integer("FLOODGATE_EVENT_MAX_ATTEMPTS", default=5)
EVENT_RETRY_MAX_DELAY_S = 3.0
# Deliveries of one partition that may wait in a consumer for a retry before it fetches no more of it.
EVENT_MAX_WAITING = 200

RELAY_BATCH = 200
# Sent rows stay this long: an emptied bus is fed again from them.
OUTBOX_RETENTION_H = 24
# Longer than the outbox keeps anything that could be published again.
INBOX_RETENTION_H = 48
PURGE_BATCH_ROWS = 1000
PURGE_DEADLINE_S = 20.0

# A follow-up that failed is due again within this; it bounds how long a repair takes once what was away is back.
FOLLOWUP_MAX_DELAY_S = 5.0
# A shard that failed a background round is left alone for this long by that process.
SHARD_PAUSE_S = 2.0

METRIC_COLLECTORS += ["infra.events.collector.EventsCollector"]
