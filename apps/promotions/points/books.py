"""The books of some users of one shard, open under their locks: movements are booked in memory and written at once."""

from collections import Counter
from collections.abc import Collection
from datetime import date, datetime

from apps.promotions.points import statements
from apps.promotions.points.domain import Account, Move, NotEnoughInLots, balance_change, draw, owed_change
from apps.promotions.points.errors import PointsMismatch, PointsShort
from apps.promotions.points.statements import LotKey, Posting


class Books:
    """Balances and lots of users as they are in the open transaction, with what is booked on them.

    Whoever opens books holds the balances of all their users until the transaction ends, so that nobody else changes
    balance or lots. `write` puts everything down in at most four statements, whatever the number of movements.
    """

    def __init__(self, alias: str, user_ids: Collection[int], *, now: datetime) -> None:
        """Lock the balances of the users, in the order of their keys, and read them."""
        self._alias = alias
        self._now = now
        statements.ensure_balances(alias, user_ids, now=now)
        self._balances = statements.read_balances(alias, user_ids)
        self._lots = statements.read_lots(alias, user_ids)
        self._postings: list[Posting] = []

    def balance(self, user_id: int) -> int:
        """Return what the user can spend, with what is booked."""
        return self._balances[user_id][0]

    def owed(self, user_id: int) -> int:
        """Return what the user owes, with what is booked."""
        return self._balances[user_id][1]

    def lots(self, user_id: int) -> list[tuple[date, int]]:
        """Return the user's lots, the soonest to expire first, with what is booked."""
        return sorted((lot, points) for lot, points in self._lots[user_id].items() if points)

    def book(self, posting: Posting) -> None:
        """Book a movement."""
        if not posting.moves:
            return
        user_id = posting.user_id
        balance, owed = self._balances[user_id]
        self._balances[user_id] = balance + balance_change(posting.moves), owed + owed_change(posting.moves)
        lots = self._lots[user_id]
        for lot, points in lot_changes(posting.moves).items():
            lots[lot] = lots.get(lot, 0) + points
        self._postings.append(posting)

    def write(self) -> None:
        """Write what was booked. Raises PointsMismatch where balances or lots do not cover it."""
        if not self._postings:
            return
        changes: dict[int, tuple[int, int]] = {}
        for posting in self._postings:
            balance, owed = changes.get(posting.user_id, (0, 0))
            changes[posting.user_id] = balance + balance_change(posting.moves), owed + owed_change(posting.moves)
        if statements.change_balances(self._alias, changes, now=self._now) != len(changes):
            raise PointsMismatch(f"{self._alias}: balances of {sorted(changes)} changed under their lock.")
        _write_lots_and_entries(self._alias, self._postings, now=self._now)


def book_spendings(alias: str, postings: dict[int, list[tuple[statements.Reference, int]]], *, now: datetime) -> None:
    """Take points from users' balances by one guarded UPDATE, then from their lots, and write the entries.

    `postings` are the references and points of each user. Raises PointsShort when any of them has not as much; the
    caller rolls back.
    """
    totals = {user_id: sum(points for _, points in members) for user_id, members in postings.items()}
    taken = {user_id: (-points, 0) for user_id, points in totals.items()}
    if statements.change_balances(alias, taken, now=now) != len(taken):
        raise PointsShort(f"{alias}: somebody of {sorted(totals)} has not as many points.")
    lots = statements.read_lots(alias, totals)
    written: list[Posting] = []
    for user_id, members in postings.items():
        for reference, points in members:
            try:
                drawn = draw(lots[user_id].items(), points)
            except NotEnoughInLots as error:
                raise PointsMismatch(f"{alias}: the lots of user {user_id} do not cover the balance.") from error
            for lot, part in drawn:
                lots[user_id][lot] -= part
            moves = [Move(Account.BALANCE, Account.SPENT, part, lot) for lot, part in drawn]
            written.append(Posting(reference, user_id, moves, actor="shopper"))
    _write_lots_and_entries(alias, written, now=now)


def lot_changes(moves: Collection[Move]) -> Counter[date]:
    """Return what moves add to each lot."""
    changes: Counter[date] = Counter()
    for move in moves:
        if move.lot is not None:
            changes[move.lot] += move.points if move.credit == Account.BALANCE else -move.points
    return changes


def _write_lots_and_entries(alias: str, postings: Collection[Posting], *, now: datetime) -> None:
    changes: Counter[LotKey] = Counter()
    for posting in postings:
        for lot, points in lot_changes(posting.moves).items():
            changes[posting.user_id, lot] += points
    taken = {key: -points for key, points in changes.items() if points < 0}
    if taken and statements.take_from_lots(alias, taken) != len(taken):
        raise PointsMismatch(f"{alias}: lots of {sorted({user_id for user_id, _ in taken})} do not cover it.")
    if put := {key: points for key, points in changes.items() if points > 0}:
        statements.put_into_lots(alias, put)
    statements.insert_entries(alias, postings, now=now)
