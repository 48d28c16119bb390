"""App configuration of the limits."""

from django.apps import AppConfig


class RateLimitConfig(AppConfig):
    """Token buckets, and the cap on requests in flight."""

    name = "infra.ratelimit"
    label = "ratelimit"
    verbose_name = "Limits"
