"""Stock, claims and counters for tests; every SKU and order is one of its own."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from secrets import randbits, token_bytes, token_hex

from django.db import connections

from apps.inventory.models import Stock
from apps.inventory.places import place_of_sku
from apps.inventory.types import Claim
from infra.sharding.ids import IdParts, compose, wall_clock_ms
from infra.sharding.slots import SLOT_COUNT

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
_sequence = count()


def make_stock(on_hand: int, *, sku: str | None = None, reserved: int = 0, allotted: int = 0) -> str:
    """Commit (or write in the test's transaction) a stock row and return its SKU."""
    sku = sku or f"T{token_hex(6)}"
    Stock.objects.using(place_of_sku(sku)).create(sku=sku, on_hand=on_hand, reserved=reserved, allotted=allotted)
    return sku


def new_order_id(*, shard: int | None = None, slot: int | None = None) -> int:
    """Return an id that no other test uses, in a slot of the lower half (shard 0), the upper (1), or either in turn."""
    number = next(_sequence)
    if slot is None:
        slot = (number % 2 if shard is None else shard) * (SLOT_COUNT // 2) + randbits(8)
    return compose(IdParts(at_ms=wall_clock_ms() + number, slot=slot, worker=randbits(9), sequence=number % 4))


def make_claim(lines: Sequence[tuple[str, int]], *, order_id: int | None = None, user_id: int = 7) -> Claim:
    """Return a claim of a new order (or the order given) for lines of SKU and units."""
    return Claim(
        order_id=order_id if order_id is not None else new_order_id(),
        user_id=user_id,
        request_digest=token_bytes(32),
        lines=tuple(sorted(lines)),
    )


def counters(sku: str) -> tuple[int, int]:
    """Return (on hand, reserved) of a SKU as they are now."""
    row = Stock.objects.using(place_of_sku(sku)).get(sku=sku)
    return row.on_hand, row.reserved


def deadlock_count(alias: str = "inventory") -> int:
    """Return how many deadlocks the alias's server has met since it started (MariaDB; 0 where it keeps no count)."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        row = cursor.fetchone()
    return int(row[1]) if row else 0
