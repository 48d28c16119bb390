"""Blocking bots: the blocks are rows of `promotions`, and every process holds those that are in force.

A process reads them every `REFRESH_INTERVAL_S` in its own thread, so a request asks memory alone. A block, or its end,
holds everywhere within two seconds; while the database is away, the last known ones hold.
"""

import threading
from datetime import datetime
from ipaddress import ip_network
from typing import Final

from django.db import IntegrityError, transaction

from apps.promotions.domain import Blocklist, block_key
from apps.promotions.errors import BuyerBlocked, SaleRefused
from apps.promotions.models import BuyerBlock
from infra.mysql.retry import is_duplicate_key
from infra.sharding.background import Periodic

PROMOTIONS: Final = "promotions"
REFRESH_INTERVAL_S: Final = 1.0
MAX_BLOCKS: Final = 10_000
"""So many may be in force at once: each process holds them all."""
# A network wider than this is a slip: it would lock out whole countries.
_SHORTEST_PREFIX: Final = {4: 8, 6: 16}


class _Known:
    """What this process knows; None until it has read for the first time."""

    blocklist: Blocklist | None = None
    reading = threading.Lock()


_known: Final = _Known()


def check_not_blocked(sale_id: int, *, user_id: int, address: str) -> None:
    """Raise BuyerBlocked for a user, or a client at an address, who may not buy in the sale; asks no database.

    A process that has read no blocks yet reads them first, once; raises OperationalError when it cannot.
    """
    blocklist = _known.blocklist
    if blocklist is None:
        with _known.reading:
            blocklist = _known.blocklist or refresh()
        _refreshing.start_on_use()
    if blocklist.covers(sale_id=sale_id, user_id=user_id, address=address):
        raise BuyerBlocked("You cannot buy in this sale. Ask the shop's support if you think that this is a mistake.")


def block_buyer(
    *, user_id: int | None = None, network: str = "", sale_id: int | None, reason: str, by: int, now: datetime
) -> int:
    """Keep a user or a network (an address or CIDR) from buying in one sale, or in all; returns the block's id.

    A block that is in force already is returned as it is, also to the second of two who block at once. Raises
    SaleRefused for what is no network or too wide a one, for a block without a reason, or one too many.
    """
    if (user_id is None) is not bool(network):
        raise SaleRefused("Block either a user or a network.")
    if not reason.strip():
        raise SaleRefused("Say why.")
    if network:
        try:
            parsed = ip_network(network.strip(), strict=False)
        except ValueError as error:
            raise SaleRefused(f"{network!r} is no address or network.") from error
        if parsed.prefixlen < _SHORTEST_PREFIX[parsed.version]:
            raise SaleRefused(f"{parsed} is too wide: at least /{_SHORTEST_PREFIX[parsed.version]}.")
        network = str(parsed)
    in_force = BuyerBlock.objects.using(PROMOTIONS).filter(lifted_at__isnull=True)
    found = in_force.filter(user_id=user_id, network=network, sale_id=sale_id).first()
    if found is not None:
        return found.id
    if in_force.count() >= MAX_BLOCKS:
        raise SaleRefused(f"{MAX_BLOCKS} blocks are in force: lift some, or block wider networks.")
    block = BuyerBlock(
        user_id=user_id,
        network=network,
        sale_id=sale_id,
        reason=reason.strip()[:200],
        blocked_by=by,
        blocked_at=now,
        in_force=block_key(user_id=user_id, network=network, sale_id=sale_id),
    )
    try:
        with transaction.atomic(using=PROMOTIONS):
            block.save(using=PROMOTIONS, force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        made = in_force.filter(in_force=block.in_force).first()
        if made is None:
            raise SaleRefused("Somebody has just made this block and lifted it again.") from error
        return made.id
    return block.id


def lift_block(block_id: int, *, by: int, now: datetime) -> bool:
    """End a block; False if there is none in force under that id. The row stays, as the record of who did what."""
    rows = BuyerBlock.objects.using(PROMOTIONS).filter(id=block_id, lifted_at__isnull=True)
    return rows.update(lifted_by=by, lifted_at=now, in_force=None) == 1


def refresh() -> Blocklist:
    """Read the blocks that are in force and let them hold in this process; raises the database's error."""
    rows = BuyerBlock.objects.using(PROMOTIONS).filter(lifted_at__isnull=True)
    _known.blocklist = blocklist = Blocklist(rows.values_list("sale_id", "user_id", "network"))
    return blocklist


def forget() -> None:
    """Have this process read the blocks again before it serves the next buyer."""
    _known.blocklist = None


_refreshing: Final = Periodic("sale-blocks", REFRESH_INTERVAL_S, refresh)
