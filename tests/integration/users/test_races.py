"""Users under races: committed rows, real threads, and the background reading of a running process."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import F

from apps.users import revocations as revocations_module
from apps.users.errors import CredentialsInvalid, LoginTaken
from apps.users.models import Session, Verification
from apps.users.refresh_tokens import read_refresh_token
from apps.users.revocations import Revocations
from apps.users.selectors import find_user_id, get_customer, last_sent_code, list_addresses, live_sessions
from apps.users.services import sessions as steps
from apps.users.services.registration import register
from apps.users.services.sessions import delete_session, refresh
from apps.users.services.verification import verify_login
from apps.users.types import TokenPair
from infra.crypto.blind_index import blind_index
from infra.errors import LimitReached
from infra.sharding.background import Periodic
from infra.sharding.places import shard_aliases
from tests.factories.threads import at_once
from tests.factories.users import NOW, PASSWORD, logged_in, make_address, new_email, new_username, registered

pytestmark = pytest.mark.usefixtures("committed")

SOON = NOW + timedelta(seconds=5)


def session_of(pair: TokenPair) -> Session:
    claim = read_refresh_token(pair.refresh)
    return Session.objects.for_user(claim.user_id).get(user_id=claim.user_id, id=claim.session_id)


def unregistered_periodic(name: str, interval_s: float, fn: Callable[[], object]):
    return Periodic(f"{name}-of-another-process", interval_s, fn)


def wait_until(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


def test_of_many_registrations_with_one_username_one_wins() -> None:
    username = new_username()
    outcomes = at_once(6, lambda _: register(logins=[username], password=PASSWORD, now=NOW))
    winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(outcomes) == 6
    assert sum(isinstance(outcome, LoginTaken) for outcome in outcomes) == 5
    assert winners == [find_user_id(username)]


def test_of_two_verifications_with_one_code_one_wins() -> None:
    email = new_email()
    registered(email)
    code = last_sent_code(email)
    outcomes = at_once(4, lambda _: verify_login(login=email, code=code, now=NOW))
    assert sorted(isinstance(outcome, CredentialsInvalid) for outcome in outcomes) == [False, True, True, True]


def test_parallel_guesses_get_no_extra_tries() -> None:
    email = new_email()
    registered(email)
    wrong = f"{(int(last_sent_code(email)) + 1) % 10**6:06d}"
    at_once(8, lambda _: verify_login(login=email, code=wrong, now=NOW))
    row = Verification.objects.get(digest=blind_index(email.kind, email.value)[0].digest)
    assert row.try_count == 5


def test_addresses_added_at_once_keep_to_the_limit() -> None:
    user_id = registered()
    for _ in range(48):
        make_address(user_id)
    outcomes = at_once(6, lambda _: make_address(user_id))
    assert sum(isinstance(outcome, LimitReached) for outcome in outcomes) == 4
    assert len(list_addresses(user_id)) == 50
    assert get_customer(user_id).version == 51


def test_of_many_refreshes_at_once_one_moves_the_session_on() -> None:
    username = new_username()
    registered(username)
    pair = logged_in(username)
    outcomes = at_once(8, lambda _: refresh(token=pair.refresh, now=SOON).refresh)
    assert len(outcomes) == 8
    assert len(set(outcomes)) == 1
    assert session_of(pair).generation == 1


def test_without_the_compare_and_set_the_session_would_move_on_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: a move that does not look at the generation
    username = new_username()
    registered(username)
    pair = logged_in(username)
    barrier = threading.Barrier(4)

    def unguarded(place, session: Session, now) -> bool:
        barrier.wait()
        with place.atomic():
            rows = Session.objects.at(place).filter(user_id=session.user_id, id=session.id)
            return bool(rows.update(generation=F("generation") + 1, rotated_at=now))

    monkeypatch.setattr(steps, "_move_on", unguarded)
    at_once(4, lambda _: refresh(token=pair.refresh, now=SOON).refresh)
    assert session_of(pair).generation == 4


def test_logins_at_once_keep_to_20_sessions() -> None:
    username = new_username()
    user_id = registered(username)
    for n in range(18):
        logged_in(username, now=NOW + timedelta(seconds=n))
    outcomes = at_once(6, lambda n: logged_in(username, now=NOW + timedelta(seconds=30 + n)))
    assert all(isinstance(outcome, TokenPair) for outcome in outcomes)
    assert len(live_sessions(user_id, now=NOW + timedelta(seconds=40))) == 20


def test_the_feed_reaches_a_running_process_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # given two processes' memories, of which one reads in the background as it does in a worker
    username = new_username()
    registered(username)
    pair = logged_in(username)
    user_id, session_id = find_user_id(username), session_of(pair).id
    memory = Revocations()
    monkeypatch.setattr(revocations_module, "Periodic", unregistered_periodic)
    for alias in shard_aliases():
        memory.watch(alias)
        memory._readers[alias].start()
    try:
        wait_until(lambda: len(memory._read_until) == len(shard_aliases()), within_s=5)
        assert not memory.has_ended(user_id=user_id, session_id=session_id, now=SOON)
        # when the session is ended by another one
        delete_session(user_id=user_id, session_id=session_id, now=datetime.now(UTC))
        # then it is known within 5 s
        wait_until(lambda: memory.has_ended(user_id=user_id, session_id=session_id, now=SOON), within_s=5)
    finally:
        for reader in memory._readers.values():
            reader.stop()
