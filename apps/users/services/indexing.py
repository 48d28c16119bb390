"""Building the directory's logins from the shards: for a new index key, and after a loss."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from django.db import IntegrityError

from apps.users.models import Customer, CustomerState, Login
from apps.users.selectors import verified_logins
from apps.users.types import LoginKind
from infra.crypto.blind_index import IndexDigest, blind_index, index_key_ids
from infra.mysql.retry import is_duplicate_key
from infra.sharding.topology import topology

_BATCH_ROWS: Final = 500


def reindex_logins(
    *, alias: str, slots: Iterable[int] | None = None, pause_s: float = 0.0, now: datetime
) -> Iterator[tuple[int, int, list[int]]]:
    """Write the digests that a shard's customers lack; yields (slot, rows written, users whose login is another's).

    Under each configured index key every verified login gets its row, in all of the shard's slots by default.
    Idempotent: what is there stays, so a killed run is started again, at the slot it had reached or at the first.
    """
    for slot in topology.slot_map().slots_of(alias) if slots is None else slots:
        written_count, conflicts, after = 0, list[int](), 0
        while True:
            rows = Customer.objects.on_shard(alias).filter(slot=slot, user_id__gt=after)
            customers = list(rows.exclude(state=CustomerState.REGISTERING).order_by("user_id")[:_BATCH_ROWS])
            if not customers:
                break
            written, taken = _write_missing(customers, now)
            written_count += written
            conflicts += taken
            if len(customers) < _BATCH_ROWS:
                break
            after = customers[-1].user_id
            time.sleep(pause_s)
        yield slot, written_count, conflicts


def prune_logins(*, limit: int = 1000) -> int:
    """Delete a batch of digests under keys that are no longer configured; returns how many."""
    digests = list(Login.objects.exclude(key_id__in=index_key_ids()).values_list("digest", flat=True)[:limit])
    return Login.objects.filter(digest__in=digests).delete()[0]


def _write_missing(customers: list[Customer], now: datetime) -> tuple[int, list[int]]:
    wanted: dict[bytes, tuple[int, LoginKind, IndexDigest]] = {
        entry.digest: (customer.user_id, login.kind, entry)
        for customer in customers
        for login in verified_logins(customer)
        for entry in blind_index(login.kind, login.value)
    }
    present = {
        bytes(digest): user_id
        for digest, user_id in Login.objects.filter(digest__in=list(wanted)).values_list("digest", "user_id")
    }
    conflicts = [user_id for digest, (user_id, _, _) in wanted.items() if present.get(digest, user_id) != user_id]
    written_count = 0
    for digest in sorted(wanted.keys() - present.keys()):
        user_id, kind, entry = wanted[digest]
        row = Login(digest=digest, kind=kind, key_id=entry.key_id, user_id=user_id, created_at=now)
        try:
            row.save(force_insert=True)
        except IntegrityError as error:
            if not is_duplicate_key(error):
                raise
            # Verified a moment ago; whose it is shows in the next run.
        else:
            written_count += 1
    return written_count, sorted(set(conflicts))
