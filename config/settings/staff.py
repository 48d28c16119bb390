"""The staff's site: its look, its languages, how long sessions last, what each role may do (docs/admin.md)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from django.templatetags.static import static

from config import env
from config.settings.base import BASE_DIR

LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "config" / "locale"]

# A session of the staff ends so long after its login, whatever happens in it, and after so long without a request.
STAFF_SESSION_LIFETIME_S = env.integer("FLOODGATE_STAFF_SESSION_LIFETIME_S", default=8 * 3600)
STAFF_SESSION_IDLE_S = env.integer("FLOODGATE_STAFF_SESSION_IDLE_S", default=30 * 60)
# What moves money or shows personal data asks for the second factor again when it was shown longer ago than this.
STAFF_STEP_UP_S = env.integer("FLOODGATE_STAFF_STEP_UP_S", default=300)
STAFF_LOG_RETENTION_DAYS = env.integer("FLOODGATE_STAFF_LOG_RETENTION_DAYS", default=730)

# A SKU of which no more than this can be bought is shown as running out.
STOCK_ALARM_UNITS = env.integer("FLOODGATE_STOCK_ALARM_UNITS", default=5)

# Figures of each hour are kept so long.
FIGURE_RETENTION_DAYS = env.integer("FLOODGATE_FIGURE_RETENTION_DAYS", default=400)

# Above so much money, by currency, a second person has to agree before it is given back; empty: one is enough. A
# currency that is not named has the least of these figures.
STAFF_FOUR_EYES = {
    currency: Decimal(amount)
    for currency, _colon, amount in (
        part.partition(":") for part in env.text_list("FLOODGATE_STAFF_FOUR_EYES", default="GBP:1000,EUR:1000,USD:1000")
    )
}

# Files that the staff have made: who made one may fetch it for so long, and so many lines it may have.
EXPORT_LIFETIME_S = env.integer("FLOODGATE_EXPORT_LIFETIME_S", default=24 * 3600)
EXPORT_MAX_ROWS = env.integer("FLOODGATE_EXPORT_MAX_ROWS", default=200_000)

_SEE_SHOP = ("catalog.view_*", "inventory.view_*", "promotions.view_*")
# Permissions by role, `*` for every name that fits. A role is a group of this name; `manage.py make_staff` and
# `manage.py sync_roles` bring the groups in line. `admin` is no group: it may do everything.
STAFF_ROLES: Mapping[str, Sequence[str]] = {
    "support": (
        *_SEE_SHOP,
        "users.view_customer",
        "orders.view_order",
        "orders.note_order",
        "orders.cancel_order",
        "orders.correct_address",
        "orders.receive_return",
        "orders.unmask_person",
    ),
    "warehouse": (
        "catalog.view_*",
        "inventory.view_*",
        "inventory.change_stock",
        "orders.view_order",
        "orders.note_order",
        "orders.ship_order",
        "orders.receive_return",
    ),
    "finance": (
        *_SEE_SHOP,
        "payments.view_*",
        "payments.decide_refund",
        "payments.capture_payment",
        "payments.resolve_difference",
        "users.view_customer",
        "orders.view_order",
        "orders.note_order",
        "orders.cancel_order",
        "orders.hold_order",
        "orders.export_orders",
        "orders.bulk_orders",
        "orders.approve_order_action",
        "orders.view_figures",
        "orders.view_queues",
        "orders.work_payment_queues",
    ),
    "promotions": (
        *_SEE_SHOP,
        "catalog.add_*",
        "catalog.change_*",
        "promotions.add_*",
        "promotions.change_*",
        "promotions.approve_*",
        "orders.view_figures",
    ),
    "auditor": (
        "*.view_*",
        "orders.export_orders",
    ),
    "operations": (
        "*.view_*",
        *(
            f"{app}.{verb}_*"
            for app in ("catalog", "inventory", "payments", "promotions")
            for verb in ("add", "change")
        ),
        "promotions.approve_*",
        "users.block_customer",
        "payments.decide_refund",
        "payments.capture_payment",
        "payments.resolve_difference",
        "orders.*",
    ),
}
# What no role has, whatever its patterns say: keys of the second factor, sessions.
STAFF_NEVER = ("otp_totp.*", "sessions.*")

UNFOLD = {
    "SITE_TITLE": "Floodgate",
    "SITE_HEADER": "Floodgate",
    "SITE_SYMBOL": "water",
    "SITE_URL": None,
    "SHOW_LANGUAGES": True,
    "SHOW_BACK_BUTTON": False,
    "STYLES": [lambda request: static("staff/staff.css")],
    "COLORS": {
        "primary": {
            "50": "#eff8ff",
            "100": "#dbeefe",
            "200": "#bfe2fe",
            "300": "#93d0fd",
            "400": "#60b5fa",
            "500": "#3b94f6",
            "600": "#2575eb",
            "700": "#1d5fd8",
            "800": "#1e4daf",
            "900": "#1e448a",
            "950": "#172a54",
        },
    },
    "SIDEBAR": {"show_search": False, "show_all_applications": False},
}
