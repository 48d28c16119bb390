"""Logging in: guessing is slowed down, unknown logins take as long as known ones, hashing is bounded."""

import secrets
import statistics
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings

from apps.users import passwords
from apps.users.errors import CredentialsInvalid, TooManyFailures
from apps.users.passwords import HashingThreads, hash_password, is_password
from apps.users.services import sessions as steps
from apps.users.services.sessions import log_in
from apps.users.slowdown import LoginSlowdown
from apps.users.types import LoginName
from infra.errors import Overloaded
from tests.factories.users import NOW, PASSWORD, make_customer, new_username, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def username() -> LoginName:
    username = new_username()
    registered(username)
    return username


@pytest.fixture(params=["redis", "without redis"])
def _with_and_without_redis(request: pytest.FixtureRequest, settings) -> None:
    if request.param == "without redis":
        settings.REDIS_CACHE_URL = "redis://127.0.0.1:1/0"  # nobody listens there


def attempt(login: str, password: str, *, after_s: float = 0, address: str = HERE) -> object:
    """Log in; returns the tokens or the refusal."""
    now = NOW + timedelta(seconds=after_s)
    try:
        return log_in(login=login, password=password, address=address, device="", now=now)
    except (CredentialsInvalid, TooManyFailures) as refusal:
        return refusal


@pytest.mark.usefixtures("_with_and_without_redis")
def test_after_five_failures_the_next_try_waits_longer_and_longer(username: LoginName) -> None:
    for _ in range(5):
        assert isinstance(attempt(username.value, "wrong"), CredentialsInvalid)
    # then even the right password has to wait, from this address
    refusal = attempt(username.value, PASSWORD)
    assert isinstance(refusal, TooManyFailures)
    assert refusal.retry_after_s == 1
    # and each further failure doubles the wait
    after_s = 1
    for wait_s in (2, 4, 8, 16, 30, 30):
        assert isinstance(attempt(username.value, "wrong", after_s=after_s), CredentialsInvalid)
        refusal = attempt(username.value, "wrong", after_s=after_s)
        assert isinstance(refusal, TooManyFailures)
        assert refusal.retry_after_s == wait_s
        after_s += wait_s
    # and when it is over, the owner is let in, and the count begins anew
    assert not isinstance(attempt(username.value, PASSWORD, after_s=after_s), Exception)
    assert isinstance(attempt(username.value, "wrong", after_s=after_s), CredentialsInvalid)


@pytest.mark.usefixtures("_with_and_without_redis")
def test_the_owner_is_never_locked_out_from_elsewhere(username: LoginName) -> None:
    for _ in range(6):
        attempt(username.value, "wrong")
    assert isinstance(attempt(username.value, PASSWORD), TooManyFailures)
    assert not isinstance(attempt(username.value, PASSWORD, address=ELSEWHERE), Exception)


def test_an_unknown_login_is_slowed_down_like_a_known_one() -> None:
    unknown = new_username().value
    refusals = [type(attempt(unknown, "wrong")) for _ in range(6)]
    assert refusals == [CredentialsInvalid] * 5 + [TooManyFailures]


@pytest.mark.usefixtures("_with_and_without_redis")
def test_after_the_free_failures_only_one_of_many_tries_at_once_passes() -> None:
    slowdown, key = LoginSlowdown(), secrets.token_hex(8)
    for _ in range(5):
        fail(slowdown, key)
    later = NOW + timedelta(seconds=1)
    outcomes = at_once(12, lambda: fail(slowdown, key, now=later))
    assert sorted(outcomes) == ["failed"] + ["refused"] * 11


def test_correct_logins_at_once_are_not_taken_for_guesses(settings) -> None:
    slowdown, key, all_in = LoginSlowdown(), secrets.token_hex(8), threading.Barrier(20)

    def succeed() -> str:
        with slowdown.attempt(key, now=NOW):
            all_in.wait(10)
        return "in"

    assert at_once(20, succeed) == ["in"] * 20


def test_a_burst_of_guesses_is_bounded(settings) -> None:
    settings.LOGIN_MAX_AT_ONCE = 8
    slowdown, key, all_in, refused = LoginSlowdown(), secrets.token_hex(8), threading.Barrier(8), threading.Semaphore(0)

    def guess() -> str:
        try:
            with slowdown.attempt(key, now=NOW):
                all_in.wait(10)
                for _ in range(12):
                    assert refused.acquire(timeout=10)
                    refused.release()
                raise CredentialsInvalid  # noqa: TRY301
        except CredentialsInvalid:
            return "failed"
        except TooManyFailures:
            refused.release()
            return "refused"

    outcomes = at_once(20, guess)
    assert (outcomes.count("failed"), outcomes.count("refused")) == (8, 12)
    assert fail(slowdown, key) == "refused"


def test_an_error_that_is_no_failure_does_not_count() -> None:
    slowdown, key = LoginSlowdown(), secrets.token_hex(8)
    for _ in range(6):
        with pytest.raises(Overloaded), slowdown.attempt(key, now=NOW):
            raise Overloaded
    assert fail(slowdown, key) == "failed"


def test_redis_that_hangs_costs_one_short_wait(settings) -> None:
    # an address that drops packets: TEST-NET-1 (RFC 5737) is routed nowhere
    settings.REDIS_CACHE_URL = "redis://192.0.2.123:6379/0"
    slowdown, key = LoginSlowdown(), secrets.token_hex(8)
    started = time.monotonic()
    for _ in range(5):
        assert fail(slowdown, key) == "failed"
    assert time.monotonic() - started < 1


def fail(slowdown: LoginSlowdown, key: str, *, now=NOW) -> str:
    try:
        with slowdown.attempt(key, now=now):
            raise CredentialsInvalid  # noqa: TRY301
    except CredentialsInvalid:
        return "failed"
    except TooManyFailures:
        return "refused"


def at_once(count: int, work: Callable[[], str]) -> list[str]:
    barrier, outcomes = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        outcomes.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_known_and_unknown_logins_take_the_same_time(username: LoginName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOGIN_FREE_FAILURES", 1000)
    malformed = "no login at all"
    logins = {"known": username.value, "unknown": new_username().value, "malformed": malformed}

    def medians() -> dict[str, float]:
        seconds: dict[str, list[float]] = {kind: [] for kind in logins}
        for _ in range(9):
            for kind, login in logins.items():
                started = time.thread_time()
                assert isinstance(attempt(login, "wrong"), CredentialsInvalid)
                seconds[kind].append(time.thread_time() - started)
        return {kind: statistics.median(values) for kind, values in seconds.items()}

    attempt(username.value, "wrong")
    measured = medians()
    assert max(measured.values()) < 1.35 * min(measured.values()), measured
    # negative control: without the decoy hash an unknown login is seen at once
    monkeypatch.setattr(
        passwords, "_check", lambda password, encoded: bool(encoded) and _really_check(password, encoded)
    )
    measured = medians()
    assert measured["known"] > 1.35 * measured["unknown"], measured


_really_check = passwords._check


def test_a_customer_without_a_password_cannot_log_in() -> None:
    assert not is_password("", "")
    assert not is_password("nobody has this password", "")
    assert make_customer().password == ""


def test_passwords_are_hashed_with_argon2id_as_owasp_says() -> None:
    encoded = hash_password(PASSWORD)
    assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert is_password(PASSWORD, encoded)
    assert not is_password(PASSWORD + "x", encoded)


def test_one_password_in_two_normal_forms_is_one() -> None:
    encoded = hash_password("cafe\u0301 ole\u0301!")
    assert is_password("caf\u00e9 ol\u00e9!", encoded)


def test_beyond_the_queue_the_answer_is_503_at_once(settings) -> None:
    # given one thread that hashes and one that waits
    settings.PASSWORD_HASH_THREADS, settings.PASSWORD_HASH_QUEUE = 1, 1
    threads, release, begun = HashingThreads(), threading.Event(), threading.Semaphore(0)

    def slow() -> str:
        begun.release()
        assert release.wait(10)
        return "done"

    results: list[str] = []
    callers = [threading.Thread(target=lambda: results.append(threads.call(slow))) for _ in range(2)]
    for caller in callers:
        caller.start()
    assert begun.acquire(timeout=10)
    deadline = time.monotonic() + 10
    while threads._admitted < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    # when a third one comes
    with pytest.raises(Overloaded):
        threads.call(slow)
    # then the first two are served, and there is room again
    release.set()
    for caller in callers:
        caller.join()
    assert results == ["done", "done"]
    assert threads.call(slow) == "done"


def test_who_has_waited_too_long_is_told_so_without_being_hashed(settings) -> None:
    # given one thread, busy for longer than anybody is to wait
    settings.PASSWORD_HASH_THREADS, settings.PASSWORD_HASH_WAIT_S = 1, 0.2
    threads, release, begun = HashingThreads(), threading.Event(), threading.Event()
    hashed: list[str] = []

    def slow() -> None:
        begun.set()
        assert release.wait(10)

    def late() -> None:
        with pytest.raises(Overloaded):
            threads.call(hashed.append, "late")

    callers = [threading.Thread(target=threads.call, args=(slow,)), threading.Thread(target=late)]
    callers[0].start()
    assert begun.wait(10)
    callers[1].start()
    time.sleep(0.4)
    release.set()
    for caller in callers:
        caller.join()
    # then the late one was not hashed, and the next one is
    assert hashed == []
    threads.call(hashed.append, "in time")
    assert hashed == ["in time"]


def test_many_logins_at_once_beyond_the_queue_are_told_so(username: LoginName, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: str) -> bool:
        raise Overloaded

    monkeypatch.setattr(steps, "is_password", full)
    with pytest.raises(Overloaded):
        attempt(username.value, PASSWORD)
