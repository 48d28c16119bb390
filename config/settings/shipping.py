"""Carriers, and the times of orders that are under way or come back."""

from config import env
from config.settings.payments import SANDBOX_URL

# The carriers that take shipments by themselves and tell of them; any other's are handed over by the staff. The sandbox
# is in production too only where it is asked for: whoever has its secret moves shipments.
SHIPPING_CARRIERS: dict[str, dict[str, object]] = {}
if not env.IS_PRODUCTION or env.flag("FLOODGATE_SANDBOX_ENABLED", default=False):
    SHIPPING_CARRIERS["sandbox"] = {
        "class": "apps.orders.carriers.sandbox.SandboxCarrier",
        "url": SANDBOX_URL,
        "secret": env.secret("FLOODGATE_SANDBOX_SECRET"),
        "connect_timeout_s": 1.0,
        "read_timeout_s": 3.0,
        # How old an event's signature may be; the carrier signs each delivery afresh.
        "max_age_s": 300,
    }

# A shipment that nobody has told of counts as delivered so long after it was handed over.
ORDER_COMPLETION_DAYS = env.number("FLOODGATE_ORDER_COMPLETION_DAYS", default=10.0)
# What has been delivered can be sent back for so long.
ORDER_RETURN_DAYS = env.number("FLOODGATE_ORDER_RETURN_DAYS", default=30.0)
