"""Writes of inventory: reserving, closing of reservations, stocking, retention."""

from apps.inventory.services.allotting import allot, lock_available, settle_allotted, take_back
from apps.inventory.services.closing import confirm, release, restock, settle
from apps.inventory.services.recounting import recount_reserved
from apps.inventory.services.reserving import reserve
from apps.inventory.services.retention import purge_closed_reservations, purge_movements
from apps.inventory.services.stocking import MAX_UNITS, adjust, adjust_all, open_stock

__all__ = [
    "MAX_UNITS",
    "adjust",
    "adjust_all",
    "allot",
    "confirm",
    "lock_available",
    "open_stock",
    "purge_closed_reservations",
    "purge_movements",
    "recount_reserved",
    "release",
    "reserve",
    "restock",
    "settle",
    "settle_allotted",
    "take_back",
]
