"""Django itself: apps, middleware, templates, caches, security."""

from config import env

BASE_DIR = env.BASE_DIR
PROFILE = env.PROFILE
IS_PRODUCTION = env.IS_PRODUCTION
VAR_DIR = BASE_DIR / env.text("FLOODGATE_VAR_DIR", local="var/local")

DEBUG = False
SECRET_KEY = env.secret("FLOODGATE_SECRET_KEY")
ALLOWED_HOSTS = env.text_list("FLOODGATE_ALLOWED_HOSTS", local="127.0.0.1,localhost,[::1],testserver")
ROOT_URLCONF = API_URLCONF = "config.urls"
STAFF_URLCONF = "config.urls_staff"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "unfold.apps.BasicAppConfig",  # the admin site is ours
    "config.admin.FloodgateAdminConfig",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_prometheus",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "infra.sharding",
    "infra.crypto",
    "infra.outbox",
    "infra.events",
    "infra.followups",
    "infra.idempotency",
    "infra.dynamic",
    "infra.ratelimit",
    "infra.signing",
    "infra.staff",
    "infra.api",
    "infra.observability",
    "apps.users",
    "apps.catalog",
    "apps.inventory",
    "apps.payments",
    "apps.promotions",
    "apps.orders",
    "apps.notifications",
]

# The public API is stateless: no sessions, no CSRF, no cookies. The staff's site adds its own (config/wsgi_staff.py).
MIDDLEWARE = [
    "infra.observability.middleware.RequestScopeMiddleware",
    "infra.ratelimit.middleware.RateLimitMiddleware",
    "infra.api.middleware.ProblemMiddleware",
]
STAFF_MIDDLEWARE = [
    "infra.observability.middleware.RequestScopeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "infra.staff.sessions.StaffSessionMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# The admin is served under config.settings_staff only, whose middleware is what these checks ask for.
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"

REDIS_DURABLE_URL = env.text("FLOODGATE_REDIS_DURABLE_URL")
REDIS_CACHE_URL = env.text("FLOODGATE_REDIS_CACHE_URL")
# A cache that hangs must cost less than the answer it would have saved.
REDIS_TIMEOUT_S = 0.5
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_CACHE_URL,
        "KEY_PREFIX": "floodgate",
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_S,
            "SOCKET_TIMEOUT": REDIS_TIMEOUT_S,
        },
    },
}

# The staff's site.
SESSION_COOKIE_NAME = "floodgate_staff"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = IS_PRODUCTION
# Longer than config.settings.staff lets a session last: its end is told, not silent.
SESSION_COOKIE_AGE = 24 * 3600
CSRF_COOKIE_SECURE = IS_PRODUCTION
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
