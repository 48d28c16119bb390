"""What is counted of claims that are not merged."""

from prometheus_client import Counter

CLAIMS = Counter("floodgate_stock_claims_total", "Orders whose stock was claimed apart.", ["strategy", "outcome"])
CONTENTION = Counter(
    "floodgate_stock_contention_total",
    "What claims met on their way: a version that had moved on, a lock not had in time, lost or out of reach, "
    "a turn in the queue that did not come, a queue that was lost or out of reach.",
    ["what"],
)
