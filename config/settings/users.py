"""Shoppers: keys, tokens, passwords, codes, limits (docs/security.md says how each key is rotated)."""

from config import env

AUTH_USER_MODEL = "users.StaffUser"
PASSWORD_HASHERS = ["apps.users.hashers.OwaspArgon2Hasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Data keys (32 bytes each, URL-safe base64), separated by commas: the first encrypts, all decrypt.
DATA_KEYS = env.text_list("FLOODGATE_DATA_KEYS")
# `id:hex` pairs for the blind index of logins; kept apart from the data keys. All are written and searched.
INDEX_KEYS = env.keyed_secrets("FLOODGATE_INDEX_KEYS")
# `kid:secret` pairs: the first signs access tokens, all verify.
JWT_KEYS = env.keyed_secrets("FLOODGATE_JWT_KEYS")
# Secrets, separated by commas: the first derives refresh tokens, all verify.
REFRESH_KEYS = env.text_list("FLOODGATE_REFRESH_KEY")

# Shown by authenticator apps beside the staff account.
OTP_TOTP_ISSUER = "Floodgate"

TOKEN_ISSUER = "floodgate"
TOKEN_AUDIENCE = "floodgate-api"
ACCESS_TOKEN_LIFETIME_S = 600
BENCH_TOKEN_LIFETIME_S = 3600
# Verified tokens that a process remembers, so that a signature is checked once; one takes about a kilobyte.
ACCESS_TOKENS_REMEMBERED = env.integer("FLOODGATE_ACCESS_TOKENS_REMEMBERED", default=50_000)
REFRESH_TOKEN_LIFETIME_S = 30 * 24 * 3600
# A client that lost the answer of a refresh may ask again for this long.
REFRESH_GRACE_S = 30

# The end of a session is told to all processes within 5 s (api.md): the feed is read this often.
REVOCATION_POLL_INTERVAL_S = 2.0
# Rows this much older than the newest one are read again at each poll, for transactions that commit late and for
# clocks that differ.
REVOCATION_OVERLAP_S = 60.0

MAX_SESSIONS = 20
MAX_ADDRESSES = 50

CODE_LIFETIME_S = 300
CODE_MAX_TRIES = 5
# Codes that are sent on request: to one login this far apart and so many an hour, so many an hour for one address.
CODE_APART_S = 60
CODES_PER_LOGIN_HOUR = 5
CODES_PER_ADDRESS_HOUR = 20
CODE_SENDER = env.text("FLOODGATE_CODE_SENDER", local="apps.users.senders.local.LocalSender")
# Handing one message to its carrier takes no longer than this, all in all; the shopper waits for it.
CARRIER_TIMEOUT_S = 3.0
if CODE_SENDER == "apps.users.senders.carriers.CarrierSender":
    SHOP_NAME = env.text("FLOODGATE_SHOP_NAME", local="Floodgate")
    EMAIL_HOST = env.text("FLOODGATE_SMTP_HOST")
    EMAIL_PORT = env.integer("FLOODGATE_SMTP_PORT", default=587)
    EMAIL_HOST_USER = env.text("FLOODGATE_SMTP_USER")
    EMAIL_HOST_PASSWORD = env.text("FLOODGATE_SMTP_PASSWORD")
    EMAIL_USE_TLS = env.flag("FLOODGATE_SMTP_STARTTLS", default=True)
    DEFAULT_FROM_EMAIL = env.text("FLOODGATE_MAIL_FROM")
    SMS_URL = env.text("FLOODGATE_SMS_URL", local="https://api.twilio.com")
    SMS_ACCOUNT = env.text("FLOODGATE_SMS_ACCOUNT")
    SMS_TOKEN = env.text("FLOODGATE_SMS_TOKEN")
    SMS_FROM = env.text("FLOODGATE_SMS_FROM")

# Argon2id hashes at once in a process (19 MiB and 20 to 40 ms each), and how many may wait before 503.
PASSWORD_HASH_THREADS = env.integer("FLOODGATE_PASSWORD_HASH_THREADS", default=2)
PASSWORD_HASH_QUEUE = env.integer("FLOODGATE_PASSWORD_HASH_QUEUE", default=64)
# One that has waited this long is told 503 instead of being hashed.
PASSWORD_HASH_WAIT_S = env.number("FLOODGATE_PASSWORD_HASH_WAIT_S", default=4.0)

# Failed logins of one login from one address: this many are free, then each doubles the wait up to the cap.
LOGIN_FREE_FAILURES = 5
LOGIN_MAX_WAIT_S = 30
# Tries of one login from one address that a process takes at once while failures are still free.
LOGIN_MAX_AT_ONCE = 32
LOGIN_FAILURES_FORGOTTEN_S = 900

# A registration that has not reached the directory after this long is taken back by the reaper.
REGISTRATION_DEADLINE_S = 120

# A customer may ask for all their data this often; it is kept for them so long.
EXPORT_APART_S = 24 * 3600
EXPORT_KEPT_S = 7 * 24 * 3600
