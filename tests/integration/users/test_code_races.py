"""Codes under races: committed rows and real threads, each guard with what happens without it."""

import threading
from datetime import timedelta

import pytest

from apps.users.errors import CredentialsInvalid, LoginTaken
from apps.users.models import CodeSending, CustomerState, Login, OneTimeCode, SentMessage
from apps.users.refresh_tokens import read_refresh_token
from apps.users.selectors import find_user_id, get_customer, last_sent_code, live_sessions
from apps.users.services import code_login as login_steps
from apps.users.services import codes as steps
from apps.users.services import logins as login_change_steps
from apps.users.services.code_login import log_in_by_code, request_login_code
from apps.users.services.logins import begin_change, change_username
from apps.users.services.verification import verify_login
from apps.users.types import LoginName, TokenPair
from infra.crypto.blind_index import blind_index
from tests.factories.threads import at_once
from tests.factories.users import NOW, new_email, new_phone, new_username, registered

pytestmark = pytest.mark.usefixtures("committed")

LOOPBACK = "127.0.0.1"
SOON = NOW + timedelta(seconds=1)


def ask(phone: LoginName) -> str:
    request_login_code(phone=phone.value, address=LOOPBACK, now=NOW)
    return last_sent_code(phone)


def log_in(phone: LoginName, code: str) -> TokenPair:
    return log_in_by_code(phone=phone.value, code=code, device="", now=SOON)


def codes_sent(phone: LoginName) -> int:
    return SentMessage.objects.filter(digest=blind_index(phone.kind, phone.value)[0].digest).count()


@pytest.mark.parametrize("is_known", [True, False])
def test_of_many_logins_with_one_code_one_gets_a_pair(is_known: bool) -> None:
    phone = new_phone()
    if is_known:
        registered(phone)
    code = ask(phone)
    outcomes = at_once(4, lambda _: log_in(phone, code))
    pairs = [outcome for outcome in outcomes if isinstance(outcome, TokenPair)]
    assert sum(isinstance(outcome, CredentialsInvalid) for outcome in outcomes) == 3
    user_id = find_user_id(phone)
    assert [read_refresh_token(pair.refresh).user_id for pair in pairs] == [user_id]
    assert len(live_sessions(user_id, now=SOON)) == 1
    assert get_customer(user_id).state == CustomerState.LIVE


def test_without_the_compare_and_set_a_code_would_open_several_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: a use that looks and then writes
    phone = new_phone()
    log_in(phone, ask(phone))
    user_id = find_user_id(phone)
    OneTimeCode.objects.filter(digest=blind_index(phone.kind, phone.value)[0].digest).update(used_at=None)
    barrier = threading.Barrier(3)

    def unguarded(code_id: int, *, now) -> None:
        is_unused = OneTimeCode.objects.get(id=code_id).used_at is None
        barrier.wait()
        assert is_unused
        OneTimeCode.objects.filter(id=code_id).update(used_at=now)

    monkeypatch.setattr(login_steps, "use_code", unguarded)
    code = last_sent_code(phone)
    at_once(3, lambda _: log_in(phone, code))
    assert len(live_sessions(user_id, now=SOON)) == 4


def test_parallel_guesses_get_no_extra_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    phone = new_phone()
    code = ask(phone)
    compared = []
    monkeypatch.setattr(steps.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    at_once(8, lambda _: log_in(phone, f"{(int(code) + 1) % 10**6:06d}"))
    assert len(compared) == 5
    with pytest.raises(CredentialsInvalid):
        log_in(phone, code)


def test_without_the_compare_and_set_parallel_guesses_would_get_extra_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: a count that is read, and written later
    phone = new_phone()
    code = ask(phone)
    compared, barrier = [], threading.Barrier(8)

    def unguarded(code_id: int, now) -> bool:
        row = OneTimeCode.objects.get(id=code_id)
        barrier.wait()
        OneTimeCode.objects.filter(id=code_id).update(try_count=row.try_count + 1)
        return row.try_count < 5

    monkeypatch.setattr(steps, "_count_try", unguarded)
    monkeypatch.setattr(steps.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    at_once(8, lambda _: log_in(phone, f"{(int(code) + 1) % 10**6:06d}"))
    assert len(compared) == 8


def test_of_many_requests_for_one_phone_one_sends_a_code() -> None:
    phone = new_phone()
    at_once(6, lambda _: request_login_code(phone=phone.value, address=LOOPBACK, now=NOW))
    assert codes_sent(phone) == 1


def test_without_the_unique_number_several_codes_would_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: a count that only looks
    phone = new_phone()
    digest = blind_index(phone.kind, phone.value)[0].digest
    barrier, numbers = threading.Barrier(4), iter(range(1, 100))

    def unguarded(login: LoginName, address: str, now) -> bool:
        assert not CodeSending.objects.filter(digest=digest).exists()
        barrier.wait()
        CodeSending(digest=digest, login_n=next(numbers), sent_at=now).save(force_insert=True)
        return True

    monkeypatch.setattr(steps, "_may_send", unguarded)
    at_once(4, lambda _: request_login_code(phone=phone.value, address=LOOPBACK, now=NOW))
    assert codes_sent(phone) == 4


def test_an_address_has_no_more_codes_for_asking_at_once() -> None:
    address = "198.51.100.77"
    CodeSending.objects.filter(address_digest=blind_index("address", address)[0].digest).delete()
    phones = [new_phone() for _ in range(24)]
    at_once(24, lambda n: request_login_code(phone=phones[n].value, address=address, now=NOW))
    assert sum(codes_sent(phone) for phone in phones) == 20


def test_of_two_users_who_want_one_email_address_at_once_one_gets_it() -> None:
    email, users = new_email(), [registered(), registered()]
    codes = []
    for n, user_id in enumerate(users):
        now = NOW + timedelta(seconds=60 * n)
        begin_change(user_id=user_id, login=email, address=LOOPBACK, now=now)
        codes.append(last_sent_code(email))
    outcomes = at_once(2, lambda n: verify_login(login=email, code=codes[n], now=NOW + timedelta(seconds=61)))
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [LoginTaken]
    owner_id = find_user_id(email)
    assert sorted(get_customer(user_id).email for user_id in users) == ["", email.value]
    assert get_customer(owner_id).email == email.value


def test_of_two_users_who_want_one_username_at_once_one_gets_it() -> None:
    username, users = new_username(), [registered() for _ in range(4)]
    outcomes = at_once(4, lambda n: change_username(user_id=users[n], username=username.value, now=NOW))
    assert sum(isinstance(outcome, LoginTaken) for outcome in outcomes) == 3
    owner_id = find_user_id(username)
    assert [user_id for user_id in users if get_customer(user_id).username == username.value] == [owner_id]


def test_two_changes_of_one_user_at_once_leave_one_login() -> None:
    user_id, usernames = registered(), [new_username() for _ in range(4)]
    outcomes = at_once(4, lambda n: change_username(user_id=user_id, username=usernames[n].value, now=NOW))
    assert outcomes == [None] * 4
    rows = Login.objects.filter(user_id=user_id)
    assert [bytes(row.digest) for row in rows] == [
        blind_index("username", get_customer(user_id).username)[0].digest,
    ]


def test_without_the_lock_of_the_identity_a_user_would_have_several(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: all of them delete before any of them inserts
    user_id, usernames = registered(), [new_username() for _ in range(3)]
    Login.objects.filter(user_id=user_id).delete()
    barrier, insert = threading.Barrier(3), login_change_steps.insert_login

    def together(*arguments: object, **options: object) -> None:
        barrier.wait()
        insert(*arguments, **options)

    monkeypatch.setattr(login_change_steps, "lock_identity", lambda _: None)
    monkeypatch.setattr(login_change_steps, "insert_login", together)
    at_once(3, lambda n: change_username(user_id=user_id, username=usernames[n].value, now=NOW))
    assert Login.objects.filter(user_id=user_id).count() == 3
