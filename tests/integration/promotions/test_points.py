"""The points ledger through its services, on each shard: every movement once, books that agree, lots that expire."""

from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.promotions.points import services
from apps.promotions.points.domain import Account, Move, PointsKind
from apps.promotions.points.errors import GrantRepeated, GrantTooLarge, PointsShort
from apps.promotions.points.models import PointsBalance, PointsLot
from apps.promotions.points.selectors import movements_of, points_of
from apps.promotions.points.services import earn, expire_lots, grant_points, new_grant_id, restore, settle_refund, spend
from apps.promotions.points.statements import Posting, Reference, insert_entries, read_postings
from apps.promotions.points.types import Earning, Settlement, Spending
from apps.users.errors import CustomerNotFound
from apps.users.services import make_bench_shoppers
from infra.sharding.ids import slot_of
from infra.sharding.places import place_of_user, shard_atomic
from infra.sharding.workers import new_order_id, new_user_id
from tests.factories.plans import plan_of
from tests.factories.points import balance, findings, grant, story
from tests.factories.users import make_customer

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture(params=[0, 1])
def user_id(request: pytest.FixtureRequest) -> int:
    return make_customer(shard=request.param).user_id


def spends(user_id: int, *points: int) -> list[Spending]:
    """Have new orders use points, in one batch."""
    batch = [Spending(new_order_id(user_id), user_id, each) for each in points]
    place = place_of_user(user_id)
    with place.atomic():
        spend(place.alias, batch, now=timezone.now())
    return batch


def gives_back(*spendings: Spending) -> None:
    place = place_of_user(spendings[0].user_id)
    with place.atomic():
        restore(place.alias, spendings, now=timezone.now())


def earns(user_id: int, points: int, *, order_id: int | None = None, clawed_back: int = 0) -> int:
    order_id = order_id or new_order_id(user_id)
    place = place_of_user(user_id)
    with place.atomic():
        earn(place.alias, [Earning(order_id, user_id, points, clawed_back)], now=timezone.now())
    return order_id


def refunds(user_id: int, order_id: int, n: int, *, restored: int = 0, clawed_back: int = 0) -> None:
    place = place_of_user(user_id)
    with place.atomic():
        settle_refund(place.alias, Settlement(order_id, user_id, n, restored, clawed_back), now=timezone.now())


def books_agree(user_id: int) -> bool:
    """Whether balance, lots and ledger agree; the orders of these tests are none, which that check would tell."""
    return not [finding for finding in findings(user_id) if "of order" not in finding.subject]


def test_one_who_never_had_points_has_none(user_id: int) -> None:
    assert points_of(user_id).balance == points_of(user_id).owed == 0
    assert points_of(user_id).lots == ()
    assert movements_of(user_id, limit=5).rows == []


def test_points_are_granted_once_for_an_id_with_actor_and_reason(user_id: int) -> None:
    grant_id, now = new_grant_id(user_id), timezone.now()
    wanted = {"user_id": user_id, "grant_id": grant_id, "actor": "staff:7", "reason": "late parcel", "now": now}
    assert grant_points(points=300, **wanted).balance == 300
    assert grant_points(points=300, **wanted).balance == 300
    with pytest.raises(GrantRepeated):
        grant_points(points=301, **wanted)
    assert story(user_id) == [("granted", 300, 0)]
    [movement] = movements_of(user_id, limit=5).rows
    assert (movement.actor, movement.reason) == ("staff:7", "late parcel")
    [posting] = read_postings(place_of_user(user_id).alias, [grant_id]).values()
    assert [(move.debit, move.credit, move.points) for move in posting] == [(Account.ISSUED, Account.BALANCE, 300)]
    assert books_agree(user_id)


def test_grants_keep_within_their_limits(user_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.MAX_GRANT, "value", 100)
    monkeypatch.setattr(services.MAX_GRANTED, "value", 250)
    now = timezone.now()
    with pytest.raises(GrantTooLarge):
        grant(user_id, 101)
    grant(user_id, 100, now=now - timedelta(days=31))
    grant(user_id, 100)
    grant(user_id, 100)
    with pytest.raises(GrantTooLarge):
        grant(user_id, 51)
    assert grant(user_id, 50).balance == 350


@pytest.mark.parametrize(
    "wrong", [{"points": 0}, {"points": 10**9 + 1}, {"reason": " "}, {"actor": ""}, {"actor": "李"}]
)
def test_a_grant_without_points_reason_or_actor_is_a_mistake(user_id: int, wrong: dict[str, object]) -> None:
    wanted = {"user_id": user_id, "grant_id": new_grant_id(user_id), "points": 5, "actor": "a", "reason": "b"}
    with pytest.raises(ValueError, match="A grant"):
        grant_points(**{**wanted, **wrong}, now=timezone.now())


def test_nobody_unknown_is_granted_points() -> None:
    with pytest.raises(CustomerNotFound):
        grant(new_user_id(), 5)


def test_the_command_grants_and_prints_the_balance(user_id: int) -> None:
    out = StringIO()
    call_command("grant_points", str(user_id), "40", reason="console", stdout=out)
    assert out.getvalue().splitlines()[-1] == "40"
    for words in ([str(new_user_id()), "40"], ["nobody", "40"], [str(user_id), "0"]):
        with pytest.raises(CommandError):
            call_command("grant_points", *words, reason="console")


def test_a_batch_spends_for_all_of_its_users_or_for_none(user_id: int) -> None:
    grant(user_id, 100)
    spends(user_id, 30, 30)
    assert balance(user_id) == 40
    with pytest.raises(PointsShort):
        spends(user_id, 30, 30)
    assert balance(user_id) == 40
    assert books_agree(user_id)


def test_the_guard_is_in_the_row_itself(user_id: int) -> None:
    """Without the guard of the statement, the server's CHECK still refuses."""
    grant(user_id, 10)
    place = place_of_user(user_id)
    sql = "UPDATE promotions_points_balance SET balance = balance - 11 WHERE user_id = %s"
    with pytest.raises(DatabaseError, match="points_balance_not_negative"), place.atomic():
        connections[place.alias].cursor().execute(sql, [user_id])


def test_spent_points_come_from_the_lot_that_expires_first_and_go_back_to_it(user_id: int) -> None:
    now = timezone.now()
    grant(user_id, 100, now=now)
    grant(user_id, 50, now=now - timedelta(days=90))
    before = points_of(user_id).lots
    [one, other] = spends(user_id, 40, 30)
    assert [points for points, _ in points_of(user_id).lots] == [80]
    gives_back(one)
    gives_back(one, other)
    gives_back(one, other)
    assert points_of(user_id).lots == before
    assert story(user_id)[-2:] == [("restored", 40, 0), ("restored", 30, 0)]
    assert books_agree(user_id)


def test_a_completed_order_earns_once(user_id: int) -> None:
    order_id = earns(user_id, 25)
    earns(user_id, 25, order_id=order_id)
    earns(user_id, 0)
    assert story(user_id) == [("earned", 25, 0)]


def test_what_was_refunded_before_completion_is_not_earned(user_id: int) -> None:
    earns(user_id, 25, clawed_back=10)
    assert balance(user_id) == 15
    assert books_agree(user_id)


def test_refunds_reach_their_totals_in_whatever_order_and_once(user_id: int) -> None:
    grant(user_id, 100)
    [order] = spends(user_id, 100)
    earns(user_id, 30, order_id=order.order_id)
    for _ in range(2):
        refunds(user_id, order.order_id, 1, restored=33, clawed_back=10)
    assert balance(user_id) == 30 + 33 - 10
    refunds(user_id, order.order_id, 2, restored=20, clawed_back=5)  # behind what was reached: nothing is taken back
    assert balance(user_id) == 30 + 33 - 10
    refunds(user_id, order.order_id, 3, restored=100, clawed_back=30)
    assert balance(user_id) == 100
    assert books_agree(user_id)


def test_what_cannot_be_clawed_back_is_owed_and_paid_by_the_next_points(user_id: int) -> None:
    order_id = earns(user_id, 30)
    [spent] = spends(user_id, 25)
    refunds(user_id, order_id, 1, clawed_back=30)
    assert (balance(user_id), points_of(user_id).owed) == (0, 25)
    earns(user_id, 10)
    assert (balance(user_id), points_of(user_id).owed) == (0, 15)
    gives_back(spent)
    assert (balance(user_id), points_of(user_id).owed) == (10, 0)
    assert story(user_id) == [
        ("earned", 30, 0),
        ("spent", -25, 0),
        ("clawed_back", -5, 25),
        ("earned", 0, -10),
        ("restored", 10, -15),
    ]
    assert books_agree(user_id)


def test_a_grant_is_the_customers_whatever_they_owe(user_id: int) -> None:
    order_id = earns(user_id, 30)
    spends(user_id, 30)
    refunds(user_id, order_id, 1, clawed_back=30)
    grant(user_id, 10)
    assert (balance(user_id), points_of(user_id).owed) == (10, 30)
    assert books_agree(user_id)


def make_due(user_id: int, lot: date) -> None:
    """Move the expiry of a user's first lot, in lots and ledger alike."""
    place = place_of_user(user_id)
    [first] = [day for _, day in points_of(user_id).lots][:1]
    PointsLot.objects.at(place).filter(user_id=user_id, expires_on=first).update(expires_on=lot)
    take = Move(Account.BALANCE, Account.EXPIRED, 1, first)
    give = Move(Account.ISSUED, Account.BALANCE, 1, lot)
    [points] = [points for points, day in points_of(user_id).lots if day == lot]
    postings = [
        Posting(Reference(new_order_id(user_id), PointsKind.EXPIRED), user_id, [take._replace(points=points)]),
        Posting(Reference(new_order_id(user_id), PointsKind.GRANTED), user_id, [give._replace(points=points)]),
    ]
    insert_entries(place.alias, postings, now=timezone.now())


def test_lots_expire_on_their_day_and_once(user_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now, alias = timezone.now(), place_of_user(user_id).alias
    grant(user_id, 100)
    make_due(user_id, now.date())
    grant(user_id, 7)
    monkeypatch.setattr(services, "EXPIRY_BATCH", 1)
    other_id = make_customer(shard=settings.SHARD_ALIASES.index(alias)).user_id
    grant(other_id, 5)
    make_due(other_id, now.date() - timedelta(days=40))

    assert expire_lots(alias, now=now - timedelta(days=1)) == 1
    assert (balance(other_id), balance(user_id)) == (0, 107)
    assert expire_lots(alias, now=now) == 1
    assert expire_lots(alias, now=now) == 0

    assert balance(user_id) == 7
    assert ("expired", -100, 0) in story(user_id)
    assert books_agree(user_id)
    assert books_agree(other_id)


def test_a_user_with_damaged_books_keeps_nobody_else_from_expiring(user_id: int) -> None:
    alias = place_of_user(user_id).alias
    damaged = make_customer(shard=settings.SHARD_ALIASES.index(alias)).user_id
    for each in (user_id, damaged):
        grant(each, 10)
    [(_, day)] = points_of(user_id).lots
    PointsBalance.objects.for_user(damaged).filter(user_id=damaged).update(balance=3)
    due = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert expire_lots(alias, now=due) >= 1
    assert (balance(user_id), balance(damaged)) == (0, 3)
    assert expire_lots(alias, now=due) == 0


def test_points_of_an_expired_lot_expire_again_when_an_order_is_closed_but_a_refund_gives_them_a_month(
    user_id: int,
) -> None:
    alias = place_of_user(user_id).alias
    grant(user_id, 100)
    [closed, refunded] = spends(user_id, 40, 60)
    [(lot,)] = {(day,) for day in (move.lot for moves in _postings(user_id, closed) for move in moves)}
    later = datetime(lot.year, lot.month, lot.day, 12, tzinfo=UTC)
    expire_lots(alias, now=later)
    place = place_of_user(user_id)
    with place.atomic():
        restore(alias, [closed], now=later)
        settle_refund(alias, Settlement(refunded.order_id, user_id, 1, 60, 0), now=later)
    assert expire_lots(alias, now=later) == 1
    [(points, day)] = points_of(user_id).lots
    assert points == 60
    assert day >= (later + timedelta(days=30)).date()
    assert books_agree(user_id)


def _postings(user_id: int, spending: Spending) -> list[list[Move]]:
    return list(read_postings(place_of_user(user_id).alias, [spending.order_id]).values())


def test_a_reference_enters_the_ledger_once(user_id: int) -> None:
    """The key is the last guard: without the look before, the second of two is refused."""
    order_id, place = new_order_id(user_id), place_of_user(user_id)
    move = Move(Account.ISSUED, Account.BALANCE, 5, date(2030, 1, 1))
    posting = Posting(Reference(order_id, PointsKind.EARNED), user_id, [move])
    insert_entries(place.alias, [posting], now=timezone.now())
    with pytest.raises(IntegrityError), place.atomic():
        insert_entries(place.alias, [posting], now=timezone.now())


def test_statements_find_the_rows_of_their_users_by_the_key(user_id: int) -> None:
    """Of a batch of two users, none opens more than their two partitions, or reads a whole one."""
    place = place_of_user(user_id)
    other_id = make_customer(shard=settings.SHARD_ALIASES.index(place.alias)).user_id
    batch = [Spending(new_order_id(each), each, 60) for each in (user_id, other_id)]
    for each in (user_id, other_id):
        grant(each, 100)
        grant(each, 50, now=timezone.now() - timedelta(days=90))
    with CaptureQueriesContext(connections[place.alias]) as captured:
        with shard_atomic(place.alias, {slot_of(each.order_id) for each in batch}):
            spend(place.alias, batch, now=timezone.now())
            restore(place.alias, batch, now=timezone.now())
        earns(user_id, 5, order_id=batch[0].order_id)
        refunds(user_id, batch[0].order_id, 1, clawed_back=5)
        points_of(user_id)
    about_points = [query["sql"] for query in captured if "promotions_points" in query["sql"]]
    explained = [sql for sql in about_points if not sql.startswith("INSERT")]
    assert len(explained) >= 12
    for sql in explained:
        for row in plan_of(connections[place.alias], sql):
            assert len(str(row["partitions"]).split(",")) <= 2, sql
            assert (row["type"], row["key"]) == ("range", "PRIMARY") or row["type"] in ("const", "ref", "eq_ref"), sql


# -- the endpoints ----------------------------------------------------------------------------------------------------


def test_the_endpoints_tell_balance_lots_and_movements() -> None:
    [shopper] = make_bench_shoppers(1)
    client, headers = Client(), {"Authorization": f"Bearer {shopper.access}"}
    assert client.get("/api/v1/users/me/points", headers=headers).json() == {"balance": 0, "owed": 0, "expiring": []}
    grant(shopper.user_id, 100)
    batch = [spends(shopper.user_id, points) for points in (10, 20, 30)]

    told = client.get("/api/v1/users/me/points", headers=headers).json()
    assert told["balance"] == 40
    [lot] = told["expiring"]
    assert lot["points"] == 40
    assert lot["expires_at"].endswith("-01T00:00:00Z")

    seen, cursor = [], None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/users/me/points/ledger", query, headers=headers).json()
        seen += page["results"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [(row["kind"], row["points"], row["owed"]) for row in seen] == [
        ("spent", -30, 0),
        ("spent", -20, 0),
        ("spent", -10, 0),
        ("granted", 100, 0),
    ]
    assert [row["order_id"] for row in seen] == [*(str(each[0].order_id) for each in reversed(batch)), None]
    assert len({row["id"] for row in seen}) == 4


def test_the_endpoints_are_for_shoppers_and_refuse_strange_cursors() -> None:
    assert Client().get("/api/v1/users/me/points").status_code == 401
    assert Client().get("/api/v1/users/me/points/ledger").status_code == 401
    one, other = make_bench_shoppers(2)
    grant(one.user_id, 1)
    grant(one.user_id, 2)
    headers = {"Authorization": f"Bearer {one.access}"}
    page = Client().get("/api/v1/users/me/points/ledger", {"limit": 1}, headers=headers).json()
    headers = {"Authorization": f"Bearer {other.access}"}
    stolen = Client().get("/api/v1/users/me/points/ledger", {"cursor": page["next"]}, headers=headers)
    assert (stolen.status_code, stolen.json()["code"]) == (400, "validation_error")
    wrong = Client().get("/api/v1/users/me/points/ledger", {"limit": 0}, headers=headers)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "query:limit")
