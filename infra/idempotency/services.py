"""Reads and writes the keys of requests.

Plain SQL: placing an order does this once or twice a request, and a batch of requests does it in one statement.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import IntegrityError, connections

from infra.crypto.cipher import decrypt_text, encrypt_text
from infra.idempotency.errors import IdempotencyKeyReused, KeyTaken
from infra.idempotency.types import RequestKey, StoredAnswer
from infra.mysql.literals import binary, moment, text
from infra.mysql.retry import is_duplicate_key
from infra.sharding.places import Place
from infra.sharding.slots import slot_of_user

_REUSED: Final = "This Idempotency-Key was used for another body."


def find_answer(place: Place, key: RequestKey) -> StoredAnswer | None:
    """Return the first answer given under this key, or None; raises IdempotencyKeyReused for another body."""
    found = find_answers(place.alias, [key]).get(key)
    if isinstance(found, IdempotencyKeyReused):
        raise found
    return found


def find_answers(alias: str, keys: Sequence[RequestKey]) -> Mapping[RequestKey, StoredAnswer | IdempotencyKeyReused]:
    """Return what is known of several keys of one shard, in one statement; unknown keys are absent."""
    if not keys:
        return {}
    by_identity = {(key.user_id, key.digest): key for key in keys}
    identities = ",".join([f"({slot_of_user(key.user_id)},{key.user_id},{binary(key.digest)})" for key in keys])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            # The index by force: for several rows of a small table the optimizer would read all of it.
            "SELECT user_id, digest, body_digest, resource_id, status, body, location"  # noqa: S608 - literals
            " FROM idempotency_key FORCE INDEX (PRIMARY)"
            f" WHERE (slot, user_id, digest) IN ({identities})"
        )
        rows = cursor.fetchall()
    answers: dict[RequestKey, StoredAnswer | IdempotencyKeyReused] = {}
    for user_id, digest, body_digest, resource_id, status, body, location in rows:
        key = by_identity[(user_id, bytes(digest))]
        if bytes(body_digest) == key.body_digest:
            answers[key] = StoredAnswer(resource_id, status, _open(body), location)
        else:
            answers[key] = IdempotencyKeyReused(_REUSED)
    return answers


def remember(place: Place, key: RequestKey, *, resource_id: str = "", now: datetime) -> None:
    """Claim the key inside the transaction of the fact that it names.

    Concurrency: a second attempt waits here until the first one has ended. Raises KeyTaken if that one committed;
    the caller rolls back and reads the answer.
    """
    remember_many(place.alias, [(key, resource_id)], now=now)


def remember_many(alias: str, entries: Iterable[tuple[RequestKey, str]], *, now: datetime) -> None:
    """Claim several keys of one shard in one statement; raises KeyTaken if any of them is taken."""
    created_at = moment(now)
    rows = ",".join(
        [
            f"({slot_of_user(key.user_id)},{key.user_id},{binary(key.digest)},{binary(key.body_digest)},"
            f"{text(resource_id)},'',{created_at})"
            for key, resource_id in entries
        ]
    )
    with connections[alias].cursor() as cursor:
        try:
            cursor.execute(
                "INSERT INTO idempotency_key (slot, user_id, digest, body_digest, resource_id, location, created_at)"  # noqa: S608 - literals
                f" VALUES {rows}"
            )
        except IntegrityError as error:
            if is_duplicate_key(error):
                raise KeyTaken from error
            raise


def complete(place: Place, key: RequestKey, *, status: int, body: bytes, location: str = "") -> None:
    """Store the answer, encrypted, beside a key that this transaction has claimed."""
    with connections[place.alias].cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_key SET status = %s, body = %s, location = %s"
            " WHERE slot = %s AND user_id = %s AND digest = %s",
            [status, _seal(body), location, place.slot, key.user_id, key.digest],
        )


def delete_keys_of(place: Place, user_id: int, *, limit: int) -> int:
    """Delete up to `limit` keys of a user, with the answers stored beside them; returns how many."""
    with connections[place.alias].cursor() as cursor:
        cursor.execute(
            "DELETE FROM idempotency_key WHERE slot = %s AND user_id = %s LIMIT %s", [place.slot, user_id, limit]
        )
        return cursor.rowcount


def purge_old_keys(
    alias: str,
    *,
    now: datetime,
    retention: timedelta,
    batch_rows: int = 1000,
    pause_s: float = 0.05,
    deadline_s: float = 30.0,
) -> int:
    """Delete a shard's keys that are older than the retention and return how many.

    Small batches with a pause between them, so that neither the shard nor its replicas notice; what is left after
    `deadline_s` seconds is for the next call.
    """
    before = (now - retention).astimezone(UTC).replace(tzinfo=None)
    stop_at = time.monotonic() + deadline_s
    deleted_count = 0
    while time.monotonic() < stop_at:
        with connections[alias].cursor() as cursor:
            cursor.execute("DELETE FROM idempotency_key WHERE created_at < %s LIMIT %s", [before, batch_rows])
            batch_count = cursor.rowcount
        deleted_count += batch_count
        if batch_count < batch_rows:
            break
        time.sleep(pause_s)
    return deleted_count


def _seal(body: bytes) -> bytes:
    """Return an answer as it is stored: it may hold an address."""
    return encrypt_text(body.decode()).encode() if body else b""


def _open(stored: bytes | None) -> bytes | None:
    if stored is None:
        return None
    return decrypt_text(bytes(stored).decode()).encode() if stored else b""
