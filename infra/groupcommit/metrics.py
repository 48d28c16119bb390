"""What the lanes tell of their batches."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_SIZE = Histogram(
    "floodgate_commit_batch_size",
    "Items committed together.",
    ["lane"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
WAIT_SECONDS = Histogram(
    "floodgate_commit_wait_seconds",
    "How long the oldest item of a batch had waited when it was begun.",
    ["lane"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)
COMMIT_SECONDS = Histogram(
    "floodgate_commit_seconds",
    "Time from the beginning of a batch to its outcomes.",
    ["lane"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
WAITING = Gauge(
    "floodgate_commit_waiting",
    "Items that wait, as they were when the last batch was begun.",
    ["lane"],
    multiprocess_mode="livesum",
)
REFUSED = Counter("floodgate_commit_refused_total", "Items refused with nothing taken.", ["lane", "reason"])
