"""Writes of inventory: reserving, closing of reservations, stocking, strategies, retention."""

from apps.inventory.services.allotting import allot, lock_available, settle_allotted, take_back
from apps.inventory.services.closing import confirm, release, restock, restock_units, settle
from apps.inventory.services.recounting import recount_reserved
from apps.inventory.services.reserving import reserve
from apps.inventory.services.restocking import restock_by_reference
from apps.inventory.services.retention import purge_closed_reservations, purge_movements, purge_restockings
from apps.inventory.services.stocking import MAX_UNITS, adjust, adjust_all, open_stock
from apps.inventory.services.strategies import strategy_of
from apps.inventory.services.strategies.choosing import choose_strategy

__all__ = [
    "MAX_UNITS",
    "adjust",
    "adjust_all",
    "allot",
    "choose_strategy",
    "confirm",
    "lock_available",
    "open_stock",
    "purge_closed_reservations",
    "purge_movements",
    "purge_restockings",
    "recount_reserved",
    "release",
    "reserve",
    "restock",
    "restock_by_reference",
    "restock_units",
    "settle",
    "settle_allotted",
    "strategy_of",
    "take_back",
]
