"""The lease on being a database's relay, judged by that database's clock, and what the relay remembers of the bus."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import IntegrityError, connections, transaction

from infra.outbox.errors import RelayLeaseLost
from infra.outbox.models import Relay


@dataclass(slots=True)
class RelayState:
    """The lease as its holder knows it; `refeed_after` is None unless the bus is being fed again."""

    token: int
    bus_epoch: str
    batch_number: int
    refeed_after: int | None
    refeed_through: int


def acquire(alias: str, *, holder: str, lease_s: float) -> RelayState | None:
    """Take the lease if it is free or over; None while another relay holds it."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE outbox_relay SET holder = %s, token = token + 1, "
            "expires_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND "
            "WHERE name = %s AND expires_at <= UTC_TIMESTAMP(6)",
            [holder, _microseconds(lease_s), alias],
        )
        taken = cursor.rowcount == 1
    row = Relay.objects.using(alias).filter(name=alias).first()
    if row is None:
        _make_row(alias)
        return acquire(alias, holder=holder, lease_s=lease_s)
    if not taken:
        return None
    return RelayState(row.token, row.bus_epoch, row.batch_number, row.refeed_after, row.refeed_through)


def renew(alias: str, state: RelayState, *, holder: str, lease_s: float) -> None:
    """Lengthen the lease and store the state, joining an open transaction. Raises RelayLeaseLost."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE outbox_relay SET expires_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, "
            "bus_epoch = %s, batch_number = %s, refeed_after = %s, refeed_through = %s "
            "WHERE name = %s AND holder = %s AND token = %s",
            [
                _microseconds(lease_s),
                state.bus_epoch,
                state.batch_number,
                state.refeed_after,
                state.refeed_through,
                alias,
                holder,
                state.token,
            ],
        )
        if cursor.rowcount != 1:
            raise RelayLeaseLost(f"{alias} has another relay.")


def release(alias: str, state: RelayState, *, holder: str) -> None:
    """Give the lease up at once, so that a standby need not wait for its end."""
    Relay.objects.using(alias).filter(name=alias, holder=holder, token=state.token).update(
        expires_at=datetime(2000, 1, 1, tzinfo=UTC)
    )


def _make_row(alias: str) -> None:
    try:
        with transaction.atomic(using=alias):
            Relay(name=alias, expires_at=datetime(2000, 1, 1, tzinfo=UTC)).save(using=alias, force_insert=True)
    except IntegrityError:
        # Another relay has just made it.
        return


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
