"""Tickets of queued sales: their text, which is signed, and how they ended, on the shard of their user."""

import base64
import struct
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, connections

from apps.promotions.errors import TicketNotFound
from apps.promotions.models import TicketOutcome
from apps.promotions.types import Sale, Ticket, TicketEnd
from infra.events.retention import delete_older
from infra.mysql.retry import is_duplicate_key
from infra.sharding.places import shard_atomic
from infra.sharding.slots import slot_of_user

_SALT: Final = "floodgate.ticket"
_LAYOUT: Final = struct.Struct(">QQQ32s")
_MAX_LENGTH: Final = 200

TicketKey = tuple[int, bytes]
"""User and digest of the request."""


def ticket_text(ticket: Ticket) -> str:
    """Return the ticket as its owner gets it; always the same for the same ticket."""
    packed = _LAYOUT.pack(ticket.sale_id, ticket.user_id, ticket.issued_ms, ticket.digest)
    return _signer().sign(base64.urlsafe_b64encode(packed).decode().rstrip("=")).replace(":", ".")


def read_ticket(text: str, *, user_id: int, now: datetime) -> Ticket:
    """Return the ticket of this user; raises TicketNotFound for what is none, another's, or older than 7 days."""
    refusal = TicketNotFound("There is no such ticket.")
    if len(text) > _MAX_LENGTH:
        raise refusal
    try:
        encoded = _signer().unsign(text.replace(".", ":"))
        packed = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        sale_id, owner_id, issued_ms, digest = _LAYOUT.unpack(packed)
    except (signing.BadSignature, ValueError, struct.error) as error:
        raise refusal from error
    ticket = Ticket(sale_id=sale_id, user_id=owner_id, digest=digest, issued_ms=issued_ms)
    if owner_id != user_id or now - ticket.issued_at > timedelta(days=settings.FLASH_TICKET_RETENTION_DAYS):
        raise refusal
    return ticket


def give_up_at(ticket: Ticket, sale: Sale) -> datetime:
    """Return when a ticket that nobody has served ends as a refusal."""
    return max(sale.ends_at, ticket.issued_at) + timedelta(seconds=settings.FLASH_TICKET_END_S)


def ticket_ends(alias: str, keys: Collection[TicketKey]) -> dict[TicketKey, TicketEnd]:
    """Return how those of the tickets ended that have."""
    if not keys:
        return {}
    marks = ", ".join(["(%s, %s, %s)"] * len(keys))
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT user_id, digest, sale_id, issued_ms, order_id, code FROM promotions_ticket "  # noqa: S608
            f"WHERE (slot, user_id, digest) IN ({marks})",
            [value for user_id, digest in keys for value in (slot_of_user(user_id), user_id, digest)],
        )
        return {
            (user_id, bytes(digest)): TicketEnd(Ticket(sale_id, user_id, bytes(digest), issued_ms), order_id, code)
            for user_id, digest, sale_id, issued_ms, order_id, code in cursor.fetchall()
        }


def end_tickets(alias: str, ends: Sequence[TicketEnd], *, now: datetime) -> None:
    """Write how tickets ended, in the open transaction. Raises IntegrityError (1062) when one of them has ended."""
    connection = connections[alias]
    at = connection.ops.adapt_datetimefield_value(now)
    rows: list[tuple[Any, ...]] = sorted(
        (slot_of_user(ticket.user_id), ticket.user_id, ticket.digest, ticket.sale_id, ticket.issued_ms, order_id, code)
        for ticket, order_id, code in ((end.ticket, end.order_id, end.code) for end in ends)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO promotions_ticket (slot, user_id, digest, sale_id, issued_ms, order_id, code, ended_at) "  # noqa: S608
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s, %s)'] * len(rows))}",
            [value for row in rows for value in (*row, at)],
        )


def end_each(alias: str, ends: Sequence[TicketEnd], *, now: datetime) -> None:
    """Write how tickets ended; one that has ended already is left as it ended.

    Concurrency: the row's key decides between this and a drain that places the order at the same time.
    """
    if not ends:
        return
    try:
        with shard_atomic(alias, {slot_of_user(end.ticket.user_id) for end in ends}):
            end_tickets(alias, ends, now=now)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        if len(ends) > 1:  # one of them has ended meanwhile: find out which, one by one
            for end in ends:
                end_each(alias, [end], now=now)


def purge_tickets(alias: str, *, now: datetime) -> int:
    """Delete how tickets ended whose retention is over; returns how many."""
    before = now - timedelta(days=settings.FLASH_TICKET_RETENTION_DAYS, hours=1)
    return delete_older(alias, table=TicketOutcome._meta.db_table, column="ended_at", before=before)


def _signer() -> signing.Signer:
    return signing.Signer(salt=_SALT)
