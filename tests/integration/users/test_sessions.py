"""Sessions: refresh rotation, grace and reuse under races, limits, and how their end reaches every process."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections

from apps.users.authentication import shopper_of
from apps.users.errors import CredentialsInvalid, SessionNotFound, TokenExpired, TokenInvalid, TokenReused
from apps.users.models import Customer, Session, SessionEnd, SessionEndReason
from apps.users.refresh_tokens import read_refresh_token
from apps.users.revocations import Revocations, revocations
from apps.users.selectors import find_user_id, get_customer, live_sessions
from apps.users.services import sessions as steps
from apps.users.services.passwords import change_password, prepare_password_change
from apps.users.services.profile import block_customer, unblock_customer
from apps.users.services.retention import purge_shard
from apps.users.services.sessions import delete_other_sessions, delete_session, log_in, log_out, refresh
from apps.users.types import LoginName, Proof, TokenPair
from infra.sharding.places import place_of_user, shard_aliases
from tests.factories.users import NOW, PASSWORD, logged_in, make_customer, new_username, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

SOON = NOW + timedelta(seconds=5)


@pytest.fixture
def username() -> LoginName:
    username = new_username()
    registered(username)
    return username


def session_of(pair: TokenPair) -> Session:
    claim = read_refresh_token(pair.refresh)
    return Session.objects.for_user(claim.user_id).get(user_id=claim.user_id, id=claim.session_id)


def is_accepted(pair: TokenPair, *, now=SOON) -> bool:
    try:
        return shopper_of(f"Bearer {pair.access}", now=now) is not None
    except TokenInvalid:
        return False


def test_a_login_gives_tokens_of_a_session(username: LoginName) -> None:
    pair = logged_in(username, device="a browser")
    shopper = shopper_of(f"Bearer {pair.access}", now=SOON)
    assert shopper.user_id == find_user_id(username)
    assert pair.expires_in == 600
    assert [(session.id, session.device) for session in live_sessions(shopper.user_id, now=SOON)] == [
        (shopper.session_id, "a browser")
    ]


def test_a_refresh_spends_the_token_for_the_next(username: LoginName) -> None:
    first = logged_in(username)
    second = refresh(token=first.refresh, now=SOON)
    third = refresh(token=second.refresh, now=SOON)
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    assert session_of(third).generation == 2
    assert is_accepted(third)


def test_a_spent_token_gets_the_same_successor_for_30_seconds(username: LoginName) -> None:
    first = logged_in(username)
    second = refresh(token=first.refresh, now=SOON)
    assert refresh(token=first.refresh, now=SOON + timedelta(seconds=30)).refresh == second.refresh
    with pytest.raises(TokenReused):
        refresh(token=first.refresh, now=SOON + timedelta(seconds=31))


def test_a_spent_token_whose_successor_was_used_is_reuse_and_ends_the_session(username: LoginName) -> None:
    first = logged_in(username)
    second = refresh(token=first.refresh, now=SOON)
    third = refresh(token=second.refresh, now=SOON)
    with pytest.raises(TokenReused):
        refresh(token=first.refresh, now=SOON)
    assert not is_accepted(third)
    for pair in (first, second, third):
        with pytest.raises(TokenReused):
            refresh(token=pair.refresh, now=SOON)


def test_reuse_leaves_other_sessions_alone(username: LoginName) -> None:
    other, first = logged_in(username), logged_in(username)
    refresh(token=refresh(token=first.refresh, now=SOON).refresh, now=SOON)
    with pytest.raises(TokenReused):
        refresh(token=first.refresh, now=SOON)
    assert is_accepted(other)


def test_a_session_that_is_not_refreshed_expires(username: LoginName) -> None:
    pair = logged_in(username)
    after = timedelta(seconds=settings.REFRESH_TOKEN_LIFETIME_S)
    assert refresh(token=pair.refresh, now=NOW + after - timedelta(seconds=1))
    other = logged_in(username)
    with pytest.raises(TokenExpired):
        refresh(token=other.refresh, now=NOW + after)


@pytest.mark.parametrize("token", ["", "nonsense", "AQ" * 41])
def test_what_is_no_refresh_token_is_refused(token: str) -> None:
    with pytest.raises(TokenInvalid):
        refresh(token=token, now=NOW)
    log_out(token=token, now=NOW)


def test_logging_out_ends_the_session_with_any_token_of_it(username: LoginName) -> None:
    first = logged_in(username)
    second = refresh(token=first.refresh, now=SOON)
    log_out(token=first.refresh, now=SOON)
    log_out(token=first.refresh, now=SOON)
    assert not is_accepted(second)
    with pytest.raises(TokenInvalid):
        refresh(token=second.refresh, now=SOON)


def test_a_device_can_be_ended_and_all_but_one(username: LoginName) -> None:
    pairs = [logged_in(username, now=NOW + timedelta(seconds=n)) for n in range(4)]
    user_id, ids = find_user_id(username), [session_of(pair).id for pair in pairs]
    delete_session(user_id=user_id, session_id=ids[0], now=SOON)
    with pytest.raises(SessionNotFound):
        delete_session(user_id=user_id, session_id=ids[0], now=SOON)
    assert delete_other_sessions(user_id=user_id, keep=ids[2], now=SOON) == 2
    assert [is_accepted(pair) for pair in pairs] == [False, False, True, False]


def test_nobody_ends_another_ones_session(username: LoginName) -> None:
    pair = logged_in(username)
    other = make_customer()
    with pytest.raises(SessionNotFound):
        delete_session(user_id=other.user_id, session_id=session_of(pair).id, now=SOON)
    assert is_accepted(pair)


def test_the_21st_session_ends_the_oldest(username: LoginName) -> None:
    pairs = [logged_in(username, now=NOW + timedelta(seconds=n)) for n in range(21)]
    user_id = find_user_id(username)
    now = NOW + timedelta(seconds=30)
    assert len(live_sessions(user_id, now=now)) == 20
    assert not is_accepted(pairs[0], now=now)
    assert is_accepted(pairs[1], now=now)
    assert session_of(pairs[0]).end_reason == SessionEndReason.CROWDED_OUT


def test_a_change_of_password_ends_the_other_sessions_and_the_old_password(username: LoginName) -> None:
    kept, other = logged_in(username), logged_in(username)
    user_id = find_user_id(username)
    change = prepare_password_change(
        user_id=user_id, proof=Proof(password=PASSWORD), new="another password", address="192.0.2.1", now=SOON
    )
    change_password(change, keep_session=session_of(kept).id, now=SOON)
    assert (is_accepted(kept), is_accepted(other)) == (True, False)
    with pytest.raises(CredentialsInvalid):
        logged_in(username)
    assert log_in(login=username.value, password="another password", address="", device="", now=SOON).access
    # a second change that was prepared before the first is refused
    with pytest.raises(CredentialsInvalid):
        change_password(change, keep_session="", now=SOON)


def test_a_change_of_password_needs_the_current_one(username: LoginName) -> None:
    with pytest.raises(CredentialsInvalid):
        prepare_password_change(
            user_id=find_user_id(username),
            proof=Proof(password="wrong"),
            new="another password",
            address="192.0.2.1",
            now=SOON,
        )


def test_a_blocked_customer_is_out_at_once_and_stays_out(username: LoginName) -> None:
    pair, user_id = logged_in(username), find_user_id(username)
    block_customer(user_id=user_id, now=SOON)
    block_customer(user_id=user_id, now=SOON)
    assert not is_accepted(pair)
    with pytest.raises(CredentialsInvalid):
        logged_in(username)
    unblock_customer(user_id=user_id, now=SOON)
    assert logged_in(username).access
    assert get_customer(user_id).version == 3


def test_a_login_that_was_checked_before_a_block_opens_no_session(
    username: LoginName, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a block that commits between the check of the password and the session
    user_id, is_password = find_user_id(username), steps.is_password

    def blocked_meanwhile(*arguments: str) -> bool:
        matches = is_password(*arguments)
        block_customer(user_id=user_id, now=SOON)
        return matches

    monkeypatch.setattr(steps, "is_password", blocked_meanwhile)
    with pytest.raises(CredentialsInvalid):
        logged_in(username)
    assert live_sessions(user_id, now=SOON) == []


# How an end reaches other processes: another instance of `Revocations` stands for another process.


@pytest.fixture
def elsewhere() -> Revocations:
    """Give the memory of another process, whose background work is this test's to call."""
    memory = Revocations()
    memory._readers = dict.fromkeys(shard_aliases())
    return memory


def read_all(memory: Revocations, *, now=NOW) -> None:
    for alias in shard_aliases():
        memory.read(alias, now=now)


@pytest.mark.parametrize("shard", [0, 1])
def test_an_end_is_known_elsewhere_after_the_next_reading(elsewhere: Revocations, shard: int) -> None:
    customer = make_customer(shard=shard)
    session = steps.new_session(slot=customer.slot, user_id=customer.user_id, device="", now=NOW)
    session.save(using=place_of_user(customer.user_id).alias, force_insert=True)
    read_all(elsewhere)
    ended = {"user_id": customer.user_id, "session_id": session.id, "now": SOON}
    assert not elsewhere.has_ended(**ended)
    delete_session(user_id=customer.user_id, session_id=session.id, now=SOON)
    assert not elsewhere.has_ended(**ended)
    read_all(elsewhere, now=SOON)
    assert elsewhere.has_ended(**ended)


def test_authentication_asks_no_database_once_the_feed_was_read(username: LoginName, django_assert_num_queries) -> None:
    pair = logged_in(username)
    assert is_accepted(pair)
    read_all(revocations)
    for alias in shard_aliases():
        with django_assert_num_queries(0, connection=connections[alias]):
            assert is_accepted(pair)


def test_a_process_that_has_not_read_the_feed_asks_the_shard(
    username: LoginName, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = logged_in(username)
    session = session_of(pair)
    Session.objects.for_user(session.user_id).filter(user_id=session.user_id, id=session.id).update(ended_at=SOON)
    assert not is_accepted(pair)
    # negative control: had it trusted an empty memory, the ended session would have passed
    monkeypatch.setattr(revocations, "_read_until", dict.fromkeys(shard_aliases(), NOW))
    assert is_accepted(pair)


def test_a_late_commit_is_seen_by_a_later_reading(elsewhere: Revocations, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an end that was written before a reading and committed after it
    customer = make_customer()
    place = place_of_user(customer.user_id)
    read_all(elsewhere, now=SOON)
    SessionEnd(slot=place.slot, session_id="late", ended_at=SOON - timedelta(seconds=20)).save(
        using=place.alias, force_insert=True
    )
    late = {"user_id": customer.user_id, "session_id": "late", "now": SOON}
    # negative control: without the overlap it would never be seen
    monkeypatch.setattr(settings, "REVOCATION_OVERLAP_S", 0.0)
    read_all(elsewhere, now=SOON + timedelta(seconds=2))
    assert not elsewhere.has_ended(**late)
    monkeypatch.undo()
    elsewhere._read_until = dict.fromkeys(shard_aliases(), SOON + timedelta(seconds=2))
    read_all(elsewhere, now=SOON + timedelta(seconds=4))
    assert elsewhere.has_ended(**late)


def test_ends_are_forgotten_when_no_token_can_live(elsewhere: Revocations) -> None:
    customer = make_customer()
    place = place_of_user(customer.user_id)
    SessionEnd(slot=place.slot, session_id="old", ended_at=NOW).save(using=place.alias, force_insert=True)
    read_all(elsewhere, now=NOW)
    assert "old" in elsewhere._forget_at
    read_all(elsewhere, now=NOW + timedelta(seconds=settings.BENCH_TOKEN_LIFETIME_S + 200))
    assert "old" not in elsewhere._forget_at


def test_expired_sessions_and_old_ends_are_cleared() -> None:
    customers = [make_customer(shard=shard) for shard in (0, 1)]
    for customer in customers:
        alias = place_of_user(customer.user_id).alias
        for age_days in (0, 31):
            at = NOW - timedelta(days=age_days)
            session = steps.new_session(slot=customer.slot, user_id=customer.user_id, device="", now=at)
            session.save(using=alias, force_insert=True)
            SessionEnd(slot=customer.slot, session_id=session.id, ended_at=at).save(using=alias, force_insert=True)
        assert purge_shard(alias=alias, now=NOW) >= 2
        assert Session.objects.using(alias).filter(user_id=customer.user_id).count() == 1
        assert SessionEnd.objects.using(alias).filter(slot=customer.slot, ended_at=NOW).count() == 1
        assert Customer.objects.for_user(customer.user_id).filter(user_id=customer.user_id).exists()
