"""Payment providers, and what is asked of them."""

from config import env

SANDBOX_URL = env.text("FLOODGATE_SANDBOX_URL", local="http://127.0.0.1:8003")

# The sandbox is in production too only where it is asked for: whoever reaches it pays with a click.
PAYMENT_PROVIDERS: dict[str, dict[str, object]] = {}
if not env.IS_PRODUCTION or env.flag("FLOODGATE_SANDBOX_ENABLED", default=False):
    PAYMENT_PROVIDERS["sandbox"] = {
        "class": "apps.payments.providers.sandbox.SandboxProvider",
        "url": SANDBOX_URL,
        "secret": env.secret("FLOODGATE_SANDBOX_SECRET"),
        "account": env.text("FLOODGATE_SANDBOX_ACCOUNT", local="floodgate"),
        # Both together stay well below the ten seconds in which every request is answered.
        "connect_timeout_s": 1.0,
        "read_timeout_s": 3.0,
        # How old a delivery's signature may be; the provider signs each delivery afresh.
        "max_age_s": 300,
        # Whether payments are only authorized at first; captured when shipping starts, or by the staff.
        "captures_apart": env.flag("FLOODGATE_SANDBOX_CAPTURES_APART", default=False),
    }

# Offered where its secrets are in the environment. Both time limits together stay below the ten seconds of a request.
if env.is_set("FLOODGATE_STRIPE_API_KEY"):
    PAYMENT_PROVIDERS["stripe"] = {
        "class": "apps.payments.providers.stripe.StripeProvider",
        "account": env.text("FLOODGATE_STRIPE_ACCOUNT"),
        "api_key": env.secret("FLOODGATE_STRIPE_API_KEY"),
        "webhook_secret": env.secret("FLOODGATE_STRIPE_WEBHOOK_SECRET"),
        # Where a shopper comes back to who named no address.
        "return_url": env.text("FLOODGATE_STRIPE_RETURN_URL"),
        "captures_apart": env.flag("FLOODGATE_STRIPE_CAPTURES_APART", default=False),
        "connect_timeout_s": 1.0,
        "read_timeout_s": 6.0,
        "max_age_s": 300,
    }

if env.is_set("FLOODGATE_WECHAT_API_V3_KEY"):
    PAYMENT_PROVIDERS["wechat"] = {
        "class": "apps.payments.providers.wechat.WeChatProvider",
        "account": env.text("FLOODGATE_WECHAT_MERCHANT"),
        "app_id": env.text("FLOODGATE_WECHAT_APP"),
        "api_v3_key": env.secret("FLOODGATE_WECHAT_API_V3_KEY"),
        "private_key": env.secret("FLOODGATE_WECHAT_PRIVATE_KEY"),
        "certificate_serial": env.text("FLOODGATE_WECHAT_CERTIFICATE_SERIAL"),
        "public_key": env.text("FLOODGATE_WECHAT_PUBLIC_KEY"),
        "public_key_id": env.text("FLOODGATE_WECHAT_PUBLIC_KEY_ID"),
        "notify_url": env.text("FLOODGATE_WECHAT_NOTIFY_URL"),
        "connect_timeout_s": 1.0,
        "read_timeout_s": 3.0,
        "max_age_s": 300,
    }

# Where a shopper may be sent back to: origins, each with an optional path that the address must begin with.
PAYMENT_RETURN_URLS = env.text_list(
    "FLOODGATE_PAYMENT_RETURN_URLS", local="http://127.0.0.1:8000,http://localhost:8000,http://localhost:3000"
)
PAYMENT_MAX_ATTEMPTS = env.integer("FLOODGATE_PAYMENT_MAX_ATTEMPTS", default=50)
PAYMENT_MAX_REFUNDS = env.integer("FLOODGATE_PAYMENT_MAX_REFUNDS", default=200)
PAYMENT_CALLBACK_RETENTION_DAYS = 90
# For so long a difference between a settlement file and the ledger may wait for the staff before the audit names it.
PAYMENT_DIFFERENCE_DAYS = env.integer("FLOODGATE_PAYMENT_DIFFERENCE_DAYS", default=7)
