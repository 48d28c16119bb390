"""Metrics of the HTTP layer; other parts declare theirs where they are counted.

In a prefork server each process writes memory-mapped files under PROMETHEUS_MULTIPROC_DIR, and the scrape adds them.
"""

from prometheus_client import Counter, Histogram

REQUESTS = Counter("floodgate_http_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "floodgate_http_request_seconds",
    "Time from the first byte read by Django to the answer.",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
