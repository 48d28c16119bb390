"""Celery: the broker, what a task may take, and beat's table of everything that runs by the clock."""

from typing import Any

from celery.schedules import crontab

from config.settings.base import REDIS_DURABLE_URL

# The order in which a worker takes what waits (kombu's Redis transport: the smaller, the sooner).
_SOON = 0
_IN_ITS_TURN = 5

CELERY_BROKER_URL = REDIS_DURABLE_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": "floodgate:celery:",
    # A task that was taken and not acknowledged for this long (its worker was killed) is given to another worker. It is
    # longer than any task may run, so that none runs twice for being slow.
    "visibility_timeout": 60,
    # Looked for every 5 s; kombu's own defaults come to once in 100 s.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "priority_steps": [_SOON, _IN_ITS_TURN],
    "socket_connect_timeout": 3.0,
    # Longer than the worker's blocking read of a second.
    "socket_timeout": 5.0,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_TIMEOUT = 3.0
# Who sends a task does not wait long for a broker that is away: what the task would do is found by its scan.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2}

CELERY_TASK_DEFAULT_QUEUE = "floodgate"
CELERY_TASK_DEFAULT_PRIORITY = _IN_ITS_TURN
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_EAGER_RESULT = False
# A task is acknowledged when it is done, and given again when its worker died: so every task is idempotent.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 40
CELERY_TASK_TIME_LIMIT = 50
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_MAX_TASKS_PER_CHILD = 5000
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

CELERY_BEAT_SCHEDULER = "config.celery:BeatScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1.0


def _every(task: str, seconds: float, *, priority: int = _IN_ITS_TURN) -> dict[str, Any]:
    """Run a task every so often; one that waited longer than its interval (no worker) is dropped, not piled up."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds, "priority": priority}}


def _hourly(task: str, minute: int) -> dict[str, Any]:
    """Run a task at a minute of each hour; each has its own minute, so that they do not meet."""
    return {
        "task": task,
        "schedule": crontab(minute=str(minute)),
        "options": {"expires": 3000, "priority": _IN_ITS_TURN},
    }


# Everything that runs by the clock. Each is a scan for what is undone: nothing depends on a message having arrived.
CELERY_BEAT_SCHEDULE = {
    entry["task"]: entry
    for entry in (
        # Shoppers wait for it. Behind the sweeps of a busy worker each of its tasks was too old when its turn came, and
        # dropped: a queue stood still for minutes.
        _every("orders.drain_queues", 1.0, priority=_SOON),
        _every("orders.sync_stock", 2.0),
        _every("orders.settle_free", 2.0),
        _every("orders.sweep_sales", 2.0),
        _every("orders.resume_transfers", 2.0),
        _every("payments.poll_attempts", 2.0),
        _every("payments.drive_refunds", 2.0),
        _every("orders.book_shipments", 2.0),
        _every("orders.restock_returns", 2.0),
        _every("orders.expire_orders", 5.0),
        _every("orders.reap_holds", 5.0),
        _every("promotions.settle_claims", 5.0),
        _every("notifications.drive_replays", 5.0),
        _every("staff.run_exports", 5.0),
        _every("staff.run_bulk_jobs", 3.0),
        _every("orders.sum_up_figures", 10.0),
        _every("users.reap_orphan_customers", 30.0),
        _every("orders.complete_orders", 60.0),
        _every("users.settle_verifications", 30.0),
        _every("users.drive_exports", 5.0),
        _every("users.drive_erasures", 10.0),
        _every("payments.reconcile", 300.0),
        _hourly("sharding.create_months", 3),
        _hourly("outbox.purge_sent", 9),
        _hourly("events.purge_inbox", 15),
        _hourly("idempotency.purge_keys", 21),
        _hourly("signing.purge_nonces", 24),
        _hourly("users.purge_expired", 27),
        _hourly("users.purge_exports", 29),
        _hourly("inventory.purge_reservations", 33),
        _hourly("payments.purge_callbacks", 39),
        _hourly("inventory.purge_movements", 45),
        _hourly("promotions.purge_coupons", 48),
        _hourly("promotions.purge_tickets", 51),
        _hourly("promotions.expire_points", 54),
        _hourly("orders.purge_sales", 57),
        _hourly("notifications.purge", 59),
        _hourly("orders.purge_figures", 12),
        _hourly("staff.purge_log", 36),
    )
}
