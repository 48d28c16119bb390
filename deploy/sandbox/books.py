"""What the books of the bank and of the courier have in common: one SQLite file, and the callbacks that are owed.

Every change is one transaction, so a kill at any moment leaves the books as they were before or after it. All methods
may be called from any thread; one lock puts them in a row. Times are Unix seconds.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_DELIVERIES = """
CREATE TABLE IF NOT EXISTS delivery (
    number INTEGER PRIMARY KEY, body BLOB NOT NULL, attempt_count INTEGER NOT NULL, next_at REAL NOT NULL,
    give_up_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (next_at);
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback that is owed: the bytes to post and how often that was tried."""

    number: int
    body: bytes
    attempt_count: int
    give_up_at: float


class Books:
    """One file with the tables of `schema` and the deliveries; see the module's promise about threads and kills."""

    def __init__(self, path: Path, *, schema: str, give_up_after_s: float) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give_up_after_s = give_up_after_s
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        # WAL with NORMAL survives the death of the process; only a power cut could cost the last instants.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(schema + _DELIVERIES)

    def close(self) -> None:
        """Close the books."""
        with self._lock:
            self._connection.close()

    def settle_due(self, *, now_s: float) -> None:
        """Do what time has brought, and note the callbacks that it owes."""

    def next_due_at(self) -> float | None:
        """Return when something happens next by itself, or None while nothing is pending."""
        with self._transaction() as connection:
            row = connection.execute("SELECT MIN(next_at) AS due_at FROM delivery").fetchone()
        return float(row["due_at"]) if row["due_at"] is not None else None

    def due_deliveries(self, *, now_s: float, limit: int = 1000) -> list[Delivery]:
        """Return callbacks that are owed now, oldest first, and drop those tried in vain for too long."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM delivery WHERE give_up_at < ?", (now_s,))
            rows = connection.execute(
                "SELECT number, body, attempt_count, give_up_at FROM delivery WHERE next_at <= ?"
                " ORDER BY next_at, number LIMIT ?",
                (now_s, limit),
            ).fetchall()
        return [Delivery(**dict(row)) for row in rows]

    def delivered(self, delivery: Delivery) -> None:
        """Strike a callback that was answered with 2xx."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM delivery WHERE number = ?", (delivery.number,))

    def retry_delivery(self, delivery: Delivery, *, next_at: float) -> None:
        """Put a callback that failed off until `next_at`."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE delivery SET attempt_count = attempt_count + 1, next_at = ? WHERE number = ?",
                (next_at, delivery.number),
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Change the books as one."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _owe(self, connection: sqlite3.Connection, body: bytes, now_s: float, *, delay_s: float = 0.0) -> None:
        """Note a callback that is to be delivered, inside a transaction."""
        due_at = now_s + delay_s
        connection.execute(
            "INSERT INTO delivery (body, attempt_count, next_at, give_up_at) VALUES (?, 0, ?, ?)",
            (body, due_at, due_at + self._give_up_after_s),
        )


def rfc3339(at_s: float) -> str:
    """Return a time as the APIs write it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
