"""The courier's books: parcels, their way, and the track events that are owed for it.

A booked parcel is fetched by itself after a moment; every later step is a scan (`scan`). Names and addresses are
looked at and not kept.
"""

import json
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from deploy.sandbox.books import Books, rfc3339
from deploy.sandbox.decoding import ParcelRequest, Scan
from deploy.sandbox.errors import Conflict, UnknownReference

_SCHEMA = """
CREATE TABLE IF NOT EXISTS parcel (
    reference TEXT PRIMARY KEY, number TEXT NOT NULL UNIQUE, pieces INTEGER NOT NULL, status TEXT NOT NULL,
    fetch_at REAL NOT NULL, created_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS parcel_due ON parcel (fetch_at) WHERE status = 'booked';
"""
_DEPOT = "London"


class Courier(Books):
    """The books of one courier; see `books` for what they promise about threads and kills."""

    def __init__(self, path: Path, *, public_url: str, fetched_after_s: float, give_up_after_s: float) -> None:
        super().__init__(path, schema=_SCHEMA, give_up_after_s=give_up_after_s)
        self._public_url = public_url
        self._fetched_after_s = fetched_after_s

    # -- merchant ---------------------------------------------------------------------------------------------

    def book(self, request: ParcelRequest, *, now_s: float) -> dict[str, object]:
        """Take a parcel; the same request again gets the same parcel, another one under its reference Conflict."""
        with self._transaction() as connection:
            row = _parcel(connection, request.reference)
            if row is None:
                number = f"SB{secrets.randbelow(10**12):012d}"
                connection.execute(
                    "INSERT INTO parcel VALUES (?, ?, ?, 'booked', ?, ?)",
                    (request.reference, number, request.pieces, now_s + self._fetched_after_s, now_s),
                )
            elif row["pieces"] != request.pieces or row["status"] == "cancelled":
                raise Conflict(f"{request.reference} exists with other contents, or was called off")
            return self._shown(connection, request.reference)

    def fetch(self, reference: str) -> dict[str, object]:
        """Return a parcel as it stands; raises UnknownReference."""
        with self._transaction() as connection:
            return self._shown(connection, reference)

    def cancel(self, reference: str) -> dict[str, object]:
        """Call a parcel off that has not been fetched yet; again: the same. Raises Conflict for one that has been."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE parcel SET status = 'cancelled' WHERE reference = ? AND status = 'booked'", (reference,)
            )
            shown = self._shown(connection, reference)
        if shown["status"] != "cancelled":
            raise Conflict(f"{reference} has been fetched")
        return shown

    # -- on the road ------------------------------------------------------------------------------------------

    def find(self, number: str) -> dict[str, object]:
        """Return the parcel with a tracking number; raises UnknownReference."""
        with self._transaction() as connection:
            return self._shown(connection, _reference_of(connection, number))

    def scan(self, number: str, scan: Scan, *, now_s: float) -> dict[str, object]:
        """Note a step of a parcel's way, whatever it is, and owe its track event, `times` times after `delay_s`.

        The event tells the time of the scan, not of its delivery: one with a delay arrives out of order.
        """
        with self._transaction() as connection:
            reference = _reference_of(connection, number)
            connection.execute("UPDATE parcel SET status = ? WHERE reference = ?", (scan.status, reference))
            self._tell(connection, reference, place=scan.place, now_s=now_s, delay_s=scan.delay_s, times=scan.times)
            return self._shown(connection, reference)

    # -- time -------------------------------------------------------------------------------------------------

    def settle_due(self, *, now_s: float) -> None:
        """Fetch the parcels whose time has come, and note the track events that this owes."""
        with self._transaction() as connection:
            due = connection.execute(
                "SELECT reference FROM parcel WHERE status = 'booked' AND fetch_at <= ?", (now_s,)
            ).fetchall()
            for row in due:
                connection.execute("UPDATE parcel SET status = 'handed_over' WHERE reference = ?", (row["reference"],))
                self._tell(connection, row["reference"], place=_DEPOT, now_s=now_s)

    def next_due_at(self) -> float | None:
        """Return when something happens next by itself, or None while nothing is pending."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT MIN(due_at) AS due_at FROM ("
                "SELECT MIN(fetch_at) AS due_at FROM parcel WHERE status = 'booked'"
                " UNION ALL SELECT MIN(next_at) FROM delivery)"
            ).fetchone()
        return float(row["due_at"]) if row["due_at"] is not None else None

    def _tell(
        self,
        connection: sqlite3.Connection,
        reference: str,
        *,
        place: str,
        now_s: float,
        delay_s: float = 0.0,
        times: int = 1,
    ) -> None:
        row = _parcel(connection, reference)
        event = {
            "event_id": f"trk_{secrets.token_hex(12)}",
            "type": f"parcel.{row['status']}",
            "created_at": rfc3339(now_s),
            "parcel": {
                "reference": reference,
                "number": row["number"],
                "status": row["status"],
                "at": rfc3339(now_s),
                "place": place,
            },
        }
        for _ in range(times):
            self._owe(connection, json.dumps(event).encode(), now_s, delay_s=delay_s)

    def _shown(self, connection: sqlite3.Connection, reference: str) -> dict[str, object]:
        row = _parcel(connection, reference)
        if row is None:
            raise UnknownReference(f"no parcel {reference}")
        return {
            "reference": row["reference"],
            "number": row["number"],
            "pieces": row["pieces"],
            "status": row["status"],
            "scan_url": f"{self._public_url}/parcels/{row['number']}",
            "created_at": rfc3339(row["created_at"]),
        }


def _parcel(connection: sqlite3.Connection, reference: str) -> Any:
    return connection.execute("SELECT * FROM parcel WHERE reference = ?", (reference,)).fetchone()


def _reference_of(connection: sqlite3.Connection, number: str) -> str:
    row = connection.execute("SELECT reference FROM parcel WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise UnknownReference("no such parcel")
    return str(row["reference"])
