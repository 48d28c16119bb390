"""Changing and removing logins: who may, what the directory and the shard say, what a crash leaves, who is told."""

from datetime import timedelta

import pytest
from django.conf import settings

from apps.users.errors import CredentialsInvalid, LoginTaken, TooManyCodes
from apps.users.models import Login, SentMessage, Verification
from apps.users.refresh_tokens import read_refresh_token
from apps.users.selectors import find_user_id, get_customer, last_sent_code
from apps.users.senders.base import Notice
from apps.users.services import logins as steps
from apps.users.services.code_login import log_in_by_code, request_login_code
from apps.users.services.logins import begin_change, change_username, remove_login
from apps.users.services.passwords import change_password, prepare_password_change
from apps.users.services.proof import check_proof, request_confirmation
from apps.users.services.verification import settle_verifications, verify_login
from apps.users.types import LoginKind, LoginName, Proof
from infra.crypto.blind_index import blind_index
from infra.errors import InvalidState, NotFound
from tests.factories.users import (
    NOW,
    PASSWORD,
    logged_in,
    make_customer,
    new_email,
    new_phone,
    new_username,
    registered,
)

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

LOOPBACK = "127.0.0.1"
LATER = NOW + timedelta(seconds=30)


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def crash(*_: object) -> None:
    raise Crash


def proven(login: LoginName) -> int:
    """Register by an e-mail address or phone that is proven."""
    user_id = registered(login)
    verify_login(login=login, code=last_sent_code(login), now=NOW)
    return user_id


def change(user_id: int, login: LoginName, *, after_s: float = 0) -> None:
    """Change an e-mail address or phone, with the code sent to the new one."""
    now = NOW + timedelta(seconds=after_s)
    begin_change(user_id=user_id, login=login, address=LOOPBACK, now=now)
    verify_login(login=login, code=last_sent_code(login), now=now)


def notices(login: LoginName) -> list[str]:
    sent = SentMessage.objects.filter(digest=blind_index(login.kind, login.value)[0].digest, code="").order_by("id")
    return list(sent.values_list("text", flat=True))


def check(user_id: int, *, password: str | None = None, code: str | None = None, after_s: float = 0) -> None:
    now = NOW + timedelta(seconds=after_s)
    check_proof(user_id=user_id, proof=Proof(password=password, code=code), address="192.0.2.1", now=now)


def test_the_current_password_proves_a_shopper() -> None:
    user_id = registered()
    check(user_id, password=PASSWORD)
    with pytest.raises(CredentialsInvalid):
        check(user_id, password="wrong")


@pytest.mark.parametrize("new_login", [new_email, new_phone])
def test_a_fresh_code_proves_a_shopper_once(new_login) -> None:
    login = new_login()
    user_id = proven(login)
    request_confirmation(user_id=user_id, to=login.kind, address=LOOPBACK, now=NOW)
    code = last_sent_code(login)
    with pytest.raises(CredentialsInvalid):
        check(user_id, code=code, after_s=301)
    check(user_id, code=code)
    with pytest.raises(CredentialsInvalid):
        check(user_id, code=code)


def test_a_code_of_another_purpose_or_user_proves_nothing() -> None:
    phone, other = new_phone(), new_phone()
    user_id, other_id = proven(phone), proven(other)
    request_login_code(phone=phone.value, address=LOOPBACK, now=NOW)
    request_confirmation(user_id=other_id, to=other.kind, address=LOOPBACK, now=NOW)
    for code in (last_sent_code(phone), last_sent_code(other)):
        with pytest.raises(CredentialsInvalid):
            check(user_id, code=code)
    # nor does a code that confirms log anybody in
    with pytest.raises(CredentialsInvalid):
        log_in_by_code(phone=other.value, code=last_sent_code(other), device="", now=NOW)


def test_a_code_is_sent_to_a_proven_login_only_and_not_too_often() -> None:
    email = new_email()
    user_id = registered(email)
    with pytest.raises(InvalidState):
        request_confirmation(user_id=user_id, to=email.kind, address=LOOPBACK, now=NOW)
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    request_confirmation(user_id=user_id, to=email.kind, address=LOOPBACK, now=NOW)
    with pytest.raises(TooManyCodes):
        request_confirmation(user_id=user_id, to=email.kind, address=LOOPBACK, now=NOW)


def test_a_shopper_without_a_password_sets_one_with_a_code() -> None:
    phone = new_phone()
    request_login_code(phone=phone.value, address=LOOPBACK, now=NOW)
    pair = log_in_by_code(phone=phone.value, code=last_sent_code(phone), device="", now=NOW)
    user_id = read_refresh_token(pair.refresh).user_id
    with pytest.raises(CredentialsInvalid):
        check(user_id, password="")
    later = NOW + timedelta(seconds=60)
    request_confirmation(user_id=user_id, to=phone.kind, address=LOOPBACK, now=later)
    proof = Proof(code=last_sent_code(phone))
    prepared = prepare_password_change(user_id=user_id, proof=proof, new=PASSWORD, address=LOOPBACK, now=later)
    change_password(prepared, keep_session=read_refresh_token(pair.refresh).session_id, now=later)
    assert logged_in(phone).access


def test_a_username_is_changed_at_once() -> None:
    before, after = new_username(), new_username()
    user_id = registered(before)
    change_username(user_id=user_id, username=after.value, now=NOW)
    change_username(user_id=user_id, username=after.value, now=NOW)
    assert (find_user_id(before), find_user_id(after)) == (None, user_id)
    customer = get_customer(user_id)
    assert (customer.username, customer.version) == (after.value, 2)
    assert logged_in(after).access
    # and the one before is free
    assert registered(before)


def test_a_username_of_somebody_elses_is_told() -> None:
    taken = new_username()
    registered(taken)
    mine = new_username()
    user_id = registered(mine)
    with pytest.raises(LoginTaken):
        change_username(user_id=user_id, username=taken.value, now=NOW)
    assert find_user_id(mine) == user_id


@pytest.mark.parametrize("new_login", [new_email, new_phone])
def test_a_new_address_takes_the_place_of_the_old_one_which_is_told(new_login) -> None:
    before, after = new_login(), new_login()
    user_id = proven(before)
    begin_change(user_id=user_id, login=after, address=LOOPBACK, now=NOW)
    # until its code comes back nothing has changed
    assert (find_user_id(before), find_user_id(after)) == (user_id, None)
    verify_login(login=after, code=last_sent_code(after), now=NOW)
    assert (find_user_id(before), find_user_id(after)) == (None, user_id)
    assert getattr(get_customer(user_id), after.kind) == after.value
    assert (notices(before), notices(after)) == ([Notice.LOGIN_CHANGED], [])
    assert logged_in(after).access


def test_a_second_login_is_added_beside_the_first() -> None:
    username, phone = new_username(), new_phone()
    user_id = registered(username)
    change(user_id, phone)
    assert find_user_id(username) == find_user_id(phone) == user_id
    assert notices(phone) == []


@pytest.mark.parametrize("new_login", [new_email, new_phone])
def test_an_address_of_somebody_elses_gives_the_same_answer_and_its_owner_is_told(new_login) -> None:
    taken = new_login()
    owner_id = proven(taken)
    code = last_sent_code(taken)
    user_id = registered()
    assert begin_change(user_id=user_id, login=taken, address=LOOPBACK, now=NOW) is None
    assert last_sent_code(taken) == code
    assert notices(taken) == [Notice.CHANGE_ATTEMPT]
    assert find_user_id(taken) == owner_id


def test_changes_are_sent_as_seldom_as_codes() -> None:
    email, user_id = new_email(), registered()
    for _ in range(3):
        begin_change(user_id=user_id, login=email, address=LOOPBACK, now=NOW)
    assert Verification.objects.filter(user_id=user_id).count() == 1


def test_a_login_is_removed_and_its_owner_is_told() -> None:
    email, phone = new_email(), new_phone()
    user_id = proven(email)
    change(user_id, phone)
    remove_login(customer=get_customer(user_id), kind=LoginKind.EMAIL, now=NOW)
    customer = get_customer(user_id)
    assert (customer.email, customer.email_verified_at) == ("", None)
    assert find_user_id(email) is None
    assert notices(email) == notices(phone) == [Notice.LOGIN_CHANGED]
    with pytest.raises(NotFound):
        remove_login(customer=customer, kind=LoginKind.EMAIL, now=NOW)


def test_an_address_that_was_never_proven_is_removed_with_its_code() -> None:
    username, email = new_username(), new_email()
    user_id = registered(username, email)
    remove_login(customer=get_customer(user_id), kind=LoginKind.EMAIL, now=NOW)
    assert get_customer(user_id).email == ""
    with pytest.raises(CredentialsInvalid):
        verify_login(login=email, code=last_sent_code(email), now=NOW)


def test_the_last_login_stays() -> None:
    username = new_username()
    user_id = registered(username)
    with pytest.raises(InvalidState):
        remove_login(customer=get_customer(user_id), kind=LoginKind.USERNAME, now=NOW)
    assert logged_in(username).access


def test_without_a_password_only_a_phone_is_a_login_to_keep() -> None:
    phone = new_phone()
    request_login_code(phone=phone.value, address=LOOPBACK, now=NOW)
    pair = log_in_by_code(phone=phone.value, code=last_sent_code(phone), device="", now=NOW)
    user_id = read_refresh_token(pair.refresh).user_id
    change_username(user_id=user_id, username=new_username().value, now=NOW)
    with pytest.raises(InvalidState):
        remove_login(customer=get_customer(user_id), kind=LoginKind.PHONE, now=NOW)
    remove_login(customer=get_customer(user_id), kind=LoginKind.USERNAME, now=NOW)


@pytest.mark.parametrize("what", ["a new username", "a removal"])
def test_a_change_that_died_between_the_databases_is_finished(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    username, email, new = new_username(), new_email(), new_username()
    user_id = registered(username, email)
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    changes = {
        "a new username": lambda: change_username(user_id=user_id, username=new.value, now=NOW),
        "a removal": lambda: remove_login(customer=get_customer(user_id), kind=LoginKind.USERNAME, now=NOW),
    }
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            changes[what]()
    assert get_customer(user_id).username == username.value
    settle_verifications(now=LATER)
    assert get_customer(user_id).username == ("" if what == "a removal" else new.value)
    assert not Verification.objects.filter(user_id=user_id).exists()


def test_a_change_that_is_told_late_does_not_undo_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    user_id, first, second = registered(), new_username(), new_username()
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            change_username(user_id=user_id, username=first.value, now=NOW)
    change_username(user_id=user_id, username=second.value, now=NOW)
    settle_verifications(now=LATER)
    assert get_customer(user_id).username == second.value
    assert find_user_id(second) == user_id


def test_without_asking_the_directory_a_late_one_would_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control
    user_id, first, second = registered(), new_username(), new_username()
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            change_username(user_id=user_id, username=first.value, now=NOW)
    change_username(user_id=user_id, username=second.value, now=NOW)
    monkeypatch.setattr("apps.users.services.verification._is_decided", lambda *_: True)
    settle_verifications(now=LATER)
    assert get_customer(user_id).username == first.value
    assert find_user_id(first) is None


def test_a_customer_has_one_login_of_each_kind() -> None:
    user_id = proven(new_email())
    for n in range(3):
        change(user_id, new_email(), after_s=60 * n)
    assert Login.objects.filter(user_id=user_id).count() == 1


def test_an_imported_customer_gets_a_login() -> None:
    customer, email = make_customer(), new_email()
    change(customer.user_id, email)
    assert find_user_id(email) == customer.user_id
