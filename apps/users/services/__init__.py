"""Writes of the users app, by noun; other apps use the names exported here."""

from apps.users.locks import lock_customers
from apps.users.services.bench import make_bench_shoppers
from apps.users.services.imports import import_customer, import_customers
from apps.users.services.order_months import note_order_month, note_order_months

__all__ = [
    "import_customer",
    "import_customers",
    "lock_customers",
    "make_bench_shoppers",
    "note_order_month",
    "note_order_months",
]
