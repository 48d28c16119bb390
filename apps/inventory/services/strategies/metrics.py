"""What is counted of claims that are not merged."""

from prometheus_client import Counter

CLAIMS = Counter("floodgate_stock_claims_total", "Orders whose stock was claimed apart.", ["strategy", "outcome"])
CONTENTION = Counter(
    "floodgate_stock_contention_total",
    "What claims met: outrun by another, a lock late, lost or away, a queue late, lost or away.",
    ["what"],
)
