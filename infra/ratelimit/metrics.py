"""What is counted of limits."""

from prometheus_client import Counter

REFUSALS = Counter("floodgate_requests_refused_total", "Requests refused by a limit.", ["layer"])
LEASES = Counter("floodgate_limit_leases_total", "Lots of requests that were asked of Redis.", ["outcome"])
