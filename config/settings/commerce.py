"""Catalog, stock and orders: bounds and times of the contract (docs, api)."""

from decimal import Decimal

from config import env
from config.settings.databases import POOL_SIZE

CURRENCY = "GBP"
CATALOG_AVAILABILITY = "apps.inventory.selectors.available"
# How old what a shopper sees may be: time in a worker's cache, in nginx's (up to 2 s: it counts whole seconds), in the
# client's own. For what can be bought they add up to no more than the contract's 5 s.
CATALOG_AVAILABLE_TTL_S = 1.0
CATALOG_CONTENT_TTL_S = 5.0
CATALOG_MAX_AGE_S = 1
# A price may be this old when an order is priced by it.
CATALOG_PRICE_TTL_S = 5.0

# An order that nobody pays ends after this long.
ORDER_UNPAID_EXPIRY_S = env.integer("FLOODGATE_ORDER_UNPAID_EXPIRY_S", default=30 * 60)
# An order may be written this long after its id was made, and never later: from then on the reaper may void it.
ORDER_WRITE_DEADLINE_S = env.number("FLOODGATE_ORDER_WRITE_DEADLINE_S", default=30.0)
# A request that has not claimed stock by then is answered without: nothing is claimed for a client that has gone.
ORDER_CLAIM_DEADLINE_S = 5.0
# So many orders of one shard are committed together by a worker (1: each by its own request), and so many may wait.
ORDER_COMMIT_BATCH = env.integer("FLOODGATE_ORDER_COMMIT_BATCH", default=64)
ORDER_COMMIT_CAPACITY = 1000
# Under load a batch that is not full waits this long for more (docs/performance.md has the measures).
ORDER_COMMIT_LINGER_S = env.number("FLOODGATE_ORDER_COMMIT_LINGER_S", default=0.004)
# What was begun is answered within this time, if only with "unknown": every answer comes within ten seconds.
ORDER_ANSWER_DEADLINE_S = 8.0
# A repeat waits this long for the earlier attempt with its key, then it is told that one is in progress.
ORDER_REPEAT_WAIT_S = 3.0
# An unpaid order whose provider cannot be asked is ended this long after its time; money that comes later goes back.
ORDER_EXPIRY_PROVIDER_GRACE_S = 300
ORDER_MAX_LINES = 50
ORDER_MAX_QUANTITY = 999
ORDER_MAX_OPEN_UNPAID = 20
IDEMPOTENCY_RETENTION_DAYS = 7

# Orders of SKUs whose stock is not claimed `merged` are committed by their own requests: so many of each of the four
# strategies at once in a worker, so that all of them leave a quarter of each pool to the batches; the others wait for
# their turn, so long at most. Every answer still comes within ten seconds.
ORDER_APART_CONCURRENCY = max(1, POOL_SIZE * 3 // 16)
ORDER_APART_WAIT_S = 2.0
# `optimistic` and its like: after so many lost races the row is locked instead.
STOCK_CLAIM_ATTEMPTS = 4
# `lock`: waited for so long, then done without; it ends by itself after so long, when its owner has died.
STOCK_LOCK_WAIT_S = 0.5
STOCK_LOCK_LIFETIME_S = 5.0
# `queue`: a claim waits so long for its turn, and so long for the outcome once it is begun. A consumer that died is
# replaced when its lease is over; a Redis that hangs is given up after the timeout.
STOCK_QUEUE_WAIT_S = 2.0
STOCK_QUEUE_ANSWER_S = 1.0
STOCK_QUEUE_LEASE_S = 1.0
STOCK_QUEUE_TIMEOUT_S = 1.0
STOCK_QUEUE_BATCH = 64

# Reservations that ended are kept this long (to tell a late repeat what became of it), settled ones as long as a refund
# may still bring their units back, movements of stock as long as the staff look back. The table of reservations has 64
# partitions: three days of two million orders are 230,000 rows in each.
INVENTORY_CLOSED_RETENTION_DAYS = 1
INVENTORY_SETTLED_RETENTION_DAYS = env.integer(
    "FLOODGATE_SETTLED_RETENTION_DAYS", default=3 if env.IS_PRODUCTION else 30
)
INVENTORY_MOVEMENT_RETENTION_DAYS = env.integer("FLOODGATE_MOVEMENT_RETENTION_DAYS", default=60)

# How old what a process knows of a sale may be: its state, its end, its items.
FLASH_SALE_TTL_S = 1.0
FLASH_SALES_LISTED = 200
# For so long a shopper's client may keep what it was told of a sale.
FLASH_SALE_MAX_AGE_S = 1
# Whether a sale made by a script on the server counts as approved where a second person's approval is needed.
FLASH_CONSOLE_APPROVES = env.flag("FLOODGATE_FLASH_CONSOLE_APPROVES", default=not env.IS_PRODUCTION)
# A purchase token is good for this long, and not past the end of its sale.
PURCHASE_TOKEN_LIFETIME_S = 600
# For so long a process believes that an item is sold out before it looks at the allotments again.
FLASH_SOLD_OUT_S = 1.0

# The queue of a sale: keys of one installation begin with this; a Redis that hangs is given up after so long.
FLASH_QUEUE_PREFIX = env.text("FLOODGATE_FLASH_QUEUE_PREFIX", local="floodgate")
FLASH_QUEUE_TIMEOUT_S = 3.0
FLASH_QUEUE_BATCH = 128
# One drain of a queue works for so long, then the next takes over; another process takes over a dead one's after this.
FLASH_DRAIN_S = 8.0
FLASH_DRAIN_LEASE_S = 4.0
# What was queued before a sale's end is still served for so long, and every ticket has ended so long after it (60 s at
# most by the contract). A ticket that the queue has forgotten is given up after a moment.
FLASH_QUEUE_GRACE_S = 20.0
FLASH_TICKET_END_S = 45.0
FLASH_TICKET_LOST_S = 5.0
FLASH_TICKET_RETENTION_DAYS = 7
# Claims, purchases, allotments and transfers of a sale are kept so long after it was closed: longer than settled
# reservations, which a refund of one of its orders restocks.
FLASH_SALE_RETENTION_DAYS = env.integer("FLOODGATE_FLASH_SALE_RETENTION_DAYS", default=60)

# How old what a process knows of coupon templates may be: whether they are still given out and used. Their terms never
# change.
COUPON_TEMPLATE_TTL_S = 2.0
COUPON_TEMPLATES_LISTED = 500
# A coupon may be written this long after its claim began, and never later: from then on the claim may be taken back.
COUPON_WRITE_DEADLINE_S = 20.0
# Coupons are kept so long after their end, and the claims of a template after its end: an order that had one may be
# given back, and the audit compares them.
COUPON_RETENTION_DAYS = 400

# What a point is worth where an order is paid with it; in a currency that is not here points cannot be used, nor are
# any earned.
POINTS_VALUE = {"GBP": Decimal("0.01"), "EUR": Decimal("0.01"), "USD": Decimal("0.01"), "CNY": Decimal("0.01")}
# Points that a refund brings back are good for so many days at least.
POINTS_RESTORED_DAYS = 30

# The address, note and reason of cancelling in the orders of a deleted account are erased at once, or where the law
# wants them on the books, this many days after the month of the order.
ORDER_ADDRESS_KEPT_DAYS = env.integer("FLOODGATE_ORDER_ADDRESS_KEPT_DAYS", default=0)
