"""Events for other systems: the log that is polled, and webhooks (docs/webhooks.md)."""

from datetime import timedelta

from config import env
from config.settings.events import EVENT_CONSUMERS
from config.settings.observability import METRIC_COLLECTORS

# For so long an event can be polled and replayed. Longer than deliveries are retried, whose body it holds.
EVENTS_LOG_RETENTION_DAYS = env.integer("FLOODGATE_EVENTS_LOG_RETENTION_DAYS", default=7)
# Whether events are logged while there is no subscription that could read them; it costs two rows an event.
EVENTS_LOG_ALWAYS = env.flag("FLOODGATE_EVENTS_LOG_ALWAYS", default=False)
# A page of GET /events looks at so many events of each shard at most, whatever types it is for.
EVENTS_LOG_WINDOW = 2000

# A receiver has to answer within this.
WEBHOOK_TIMEOUT_S = 5.0
# A delivery is retried for so long, then it is dead; a subscription to which nothing got through for so long is
# disabled.
WEBHOOK_RETRY_PERIOD = timedelta(days=3)
# Deliveries that ended well are shown to the staff for so long.
WEBHOOK_DELIVERED_RETENTION_H = 24
WEBHOOK_MAX_SUBSCRIPTIONS = 100
# Requests that a sender has under way at once: in all, and to one subscription, so that a slow one does not take the
# places of the others.
WEBHOOK_CONCURRENCY = env.integer("FLOODGATE_WEBHOOK_CONCURRENCY", default=64)
WEBHOOK_SUBSCRIPTION_CONCURRENCY = env.integer("FLOODGATE_WEBHOOK_SUBSCRIPTION_CONCURRENCY", default=8)
# Claimed by a sender for so long; when it dies, another one takes the delivery over then.
WEBHOOK_LEASE_S = 30.0
# An idle sender looks for due deliveries this often, slowing down from the first to the second.
WEBHOOK_POLL_MIN_S = 0.05
WEBHOOK_POLL_MAX_S = 1.0
# How old a sender's knowledge of the subscriptions may be.
WEBHOOK_SUBSCRIPTIONS_TTL_S = 2.0
# A round of a replay takes so many events of a shard, one after the other for so long.
WEBHOOK_REPLAY_BATCH = 500
WEBHOOK_REPLAY_ROUND_S = 10.0

EVENT_CONSUMERS += ["apps.notifications.consumers"]
METRIC_COLLECTORS += ["apps.notifications.metrics.DeliveriesCollector"]
