"""The public API: DRF, schema, limits on what a request may be."""

from config import env
from config.settings.base import MIDDLEWARE

PUBLIC_URL = env.text("FLOODGATE_PUBLIC_URL", local="http://127.0.0.1:8000")
INTERNAL_URL = env.text("FLOODGATE_INTERNAL_URL", local="http://127.0.0.1:8001")
STAFF_URL = env.text("FLOODGATE_STAFF_URL", local="http://127.0.0.1:8002")

# Off, the lean worker hands every request to Django, the hot endpoints' too.
FAST_LANE = env.flag("FLOODGATE_FAST_LANE", default=True)

# A signed request's time stamp may be this far from the server's clock.
SIGNING_WINDOW_S = 300

MAX_BODY_BYTES = 64 * 1024
# A provider's callback is in the provider's own format and may be larger (api.md).
MAX_CALLBACK_BYTES = 256 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_CALLBACK_BYTES
CURSOR_MAX_AGE_S = 24 * 3600
# Peers whose X-Forwarded-For is believed. The local nginx comes from an address of its own, so that nobody else on
# this machine passes for a proxy by asking gunicorn directly.
# What a proxy has sent on longer ago than this is refused when its turn comes. nginx waits for an answer for 9 s. The
# proxy's clock is compared with this machine's: raise it where they cannot be kept together.
REQUEST_WAIT_LIMIT_S = env.number("FLOODGATE_REQUEST_WAIT_LIMIT_S", default=5.0)
TRUSTED_PROXIES = env.text_list("FLOODGATE_TRUSTED_PROXIES", local="127.0.0.2")

# Who has no limit per address. All clients of a local stack come from loopback (api.md, limits).
RATE_LIMIT_EXEMPT_NETWORKS = [] if env.IS_PRODUCTION else ["127.0.0.0/8", "::1/128"]

CORS_ALLOWED_ORIGINS = (
    env.text_list("FLOODGATE_CORS_ORIGINS", local="")
    if not env.IS_PRODUCTION
    else env.text_list("FLOODGATE_CORS_ORIGINS")
)
CORS_URLS_REGEX = r"^/api/.*$"
if CORS_ALLOWED_ORIGINS:
    MIDDLEWARE.insert(1, "corsheaders.middleware.CorsMiddleware")

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["infra.api.parsers.StrictJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.users.api.authentication.ShopperAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.users.api.permissions.IsShopper"],
    "DEFAULT_SCHEMA_CLASS": "infra.api.schema.ProblemAutoSchema",
    "EXCEPTION_HANDLER": "infra.api.problems.problem_handler",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Floodgate",
    "DESCRIPTION": (
        "Orders for sales that come in floods. Errors are RFC 9457 problems, ids strings, money a decimal string."
    ),
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVERS": [{"url": PUBLIC_URL}],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "infra.api.schema.add_problem_responses",
        "infra.api.schema.refuse_unknown_fields",
    ],
}
