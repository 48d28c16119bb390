"""Logging in by phone and code: how often codes are sent, what a code is good for, whose account it opens."""

from datetime import timedelta
from secrets import token_hex

import pytest
from django.conf import settings

from apps.users.errors import CredentialsInvalid, TokenInvalid, TooManyCodes
from apps.users.models import CustomerState, OneTimeCode, SentMessage, SessionEnd
from apps.users.refresh_tokens import read_refresh_token
from apps.users.selectors import find_user_id, get_customer, last_sent_code, live_sessions
from apps.users.services import code_login as steps
from apps.users.services.code_login import log_in_by_code, request_login_code
from apps.users.services.profile import block_customer
from apps.users.services.registration import reap_orphan_customers
from apps.users.services.retention import purge_directory
from apps.users.services.sessions import refresh
from apps.users.services.verification import settle_verifications, verify_login
from apps.users.types import LoginName, TokenPair
from infra.crypto.blind_index import blind_index
from infra.sharding.places import place_of_user, shard_aliases
from tests.factories.users import (
    NOW,
    logged_in,
    make_address,
    new_email,
    new_phone,
    new_username,
    registered,
    user_id_on,
)

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

LOOPBACK = "127.0.0.1"


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def ask(phone: LoginName, *, after_s: float = 0, address: str = LOOPBACK) -> str:
    """Ask for a code; returns the last one sent."""
    request_login_code(phone=phone.value, address=address, now=NOW + timedelta(seconds=after_s))
    return last_sent_code(phone)


def log_in(phone: LoginName, code: str, *, after_s: float = 1) -> TokenPair:
    return log_in_by_code(phone=phone.value, code=code, device="", now=NOW + timedelta(seconds=after_s))


def owner(pair: TokenPair) -> int:
    return read_refresh_token(pair.refresh).user_id


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


def codes_sent(phone: LoginName) -> int:
    return SentMessage.objects.filter(digest=blind_index(phone.kind, phone.value)[0].digest).exclude(code="").count()


def test_a_phone_of_nobodys_gets_its_customer() -> None:
    phone = new_phone()
    user_id = owner(log_in(phone, ask(phone)))
    customer = get_customer(user_id)
    assert (customer.state, customer.phone, customer.password) == (CustomerState.LIVE, phone.value, "")
    assert customer.phone_verified_at is not None
    assert find_user_id(phone) == user_id
    # and comes back to it
    assert owner(log_in(phone, ask(phone, after_s=60), after_s=61)) == user_id


def test_a_code_works_once() -> None:
    phone = new_phone()
    code = ask(phone)
    log_in(phone, code)
    with pytest.raises(CredentialsInvalid):
        log_in(phone, code)


def test_a_code_lives_for_five_minutes() -> None:
    phone = new_phone()
    code = ask(phone)
    with pytest.raises(CredentialsInvalid):
        log_in(phone, code, after_s=301)
    assert log_in(phone, code, after_s=299).access


def test_a_code_has_five_tries() -> None:
    phone = new_phone()
    code = ask(phone)
    for _ in range(5):
        with pytest.raises(CredentialsInvalid):
            log_in(phone, wrong(code))
    with pytest.raises(CredentialsInvalid):
        log_in(phone, code)
    # negative control: with a try left it is accepted
    OneTimeCode.objects.filter(digest=blind_index(phone.kind, phone.value)[0].digest).update(try_count=4)
    assert log_in(phone, code).access


def test_only_the_newest_code_is_good() -> None:
    phone = new_phone()
    first, second = ask(phone), ask(phone, after_s=60)
    if first != second:
        with pytest.raises(CredentialsInvalid):
            log_in(phone, first, after_s=61)
    assert log_in(phone, second, after_s=61).access


def test_codes_are_stored_as_keyed_digests() -> None:
    phone = new_phone()
    code = ask(phone)
    row = OneTimeCode.objects.get(digest=blind_index(phone.kind, phone.value)[0].digest)
    assert code.encode() not in bytes(row.code_digest)
    assert bytes(row.code_digest) != blind_index("code", f"{phone.kind}:{phone.value}:{code}")[0].digest


def test_a_phone_gets_one_code_a_minute_and_five_an_hour() -> None:
    phone = new_phone()
    first = ask(phone)
    assert ask(phone, after_s=59) == first
    assert codes_sent(phone) == 1
    for n in range(1, 10):
        ask(phone, after_s=60 * n)
    assert codes_sent(phone) == 5
    ask(phone, after_s=3599)
    assert codes_sent(phone) == 5
    ask(phone, after_s=3600)
    assert codes_sent(phone) == 6


def test_an_address_gets_twenty_codes_an_hour() -> None:
    address = f"2001:db8:{token_hex(2)}:{token_hex(2)}::1"
    for _ in range(20):
        ask(new_phone(), address=address)
    for same_network in (address, address.replace("::1", "::2")):
        with pytest.raises(TooManyCodes) as refusal:
            ask(new_phone(), after_s=10, address=same_network)
        assert refusal.value.retry_after_s == 3590
    ask(new_phone(), after_s=3600, address=address)
    # loopback is exempt in the local profile
    for _ in range(21):
        ask(new_phone())


def test_the_first_proof_of_a_phone_ends_the_password_and_the_sessions_set_before_it() -> None:
    # given somebody who has registered with a phone that they have not proven, and has logged in
    username, phone, email = new_username(), new_phone(), new_email()
    user_id = registered(username, phone, email)
    codes_of_registration = {login: last_sent_code(login) for login in (phone, email)}
    before = logged_in(username)
    # when its owner logs in by a code
    pair = log_in(phone, ask(phone))
    # then the account is the owner's alone
    assert owner(pair) == user_id
    with pytest.raises(TokenInvalid):
        refresh(token=before.refresh, now=NOW + timedelta(seconds=2))
    for login in (username, phone):
        with pytest.raises(CredentialsInvalid):
            logged_in(login)
    assert [session.id for session in live_sessions(user_id, now=NOW)] == [read_refresh_token(pair.refresh).session_id]
    ended = SessionEnd.objects.for_user(user_id).filter(session_id=read_refresh_token(before.refresh).session_id)
    assert ended.exists()
    # and what the other had asked for is worth nothing any more
    for login, code in codes_of_registration.items():
        with pytest.raises(CredentialsInvalid):
            verify_login(login=login, code=code, now=NOW)
    customer = get_customer(user_id)
    assert (customer.email, customer.phone) == ("", phone.value)


def test_a_later_proof_ends_nothing() -> None:
    phone = new_phone()
    user_id = registered(phone)
    verify_login(login=phone, code=last_sent_code(phone), now=NOW)
    before = logged_in(phone)
    assert owner(log_in(phone, ask(phone))) == user_id
    assert refresh(token=before.refresh, now=NOW + timedelta(seconds=2)).access
    assert logged_in(phone).access


@pytest.mark.parametrize("holds", ["an address", "an order", "a proven e-mail address"])
def test_a_registration_that_holds_anothers_data_is_not_handed_over(holds: str) -> None:
    # given somebody who mistyped their phone, and has used the account
    username, phone, email = new_username(), new_phone(), new_email()
    user_id = registered(username, phone, email)
    if holds == "an address":
        make_address(user_id)
    elif holds == "an order":
        place = place_of_user(user_id)
        type(get_customer(user_id)).objects.at(place).filter(user_id=user_id).update(first_order_month=202611)
    else:
        verify_login(login=email, code=last_sent_code(email), now=NOW)
    # when the phone's owner logs in
    pair = log_in(phone, ask(phone))
    # then they have an account of their own, and the other keeps theirs
    assert owner(pair) != user_id
    assert find_user_id(phone) == owner(pair)
    assert logged_in(username).access


def test_a_registration_that_gets_a_login_meanwhile_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    username, phone, email = new_username(), new_phone(), new_email()
    user_id = registered(username, phone, email)
    accept = steps._accept

    def overtaken(*arguments, **options):
        if not options["is_new"]:
            verify_login(login=email, code=last_sent_code(email), now=NOW)
        return accept(*arguments, **options)

    monkeypatch.setattr(steps, "_accept", overtaken)
    assert owner(log_in(phone, ask(phone))) != user_id
    assert get_customer(user_id).email == email.value


def test_a_blocked_customer_stays_out() -> None:
    phone = new_phone()
    user_id = owner(log_in(phone, ask(phone)))
    block_customer(user_id=user_id, now=NOW)
    with pytest.raises(CredentialsInvalid):
        log_in(phone, ask(phone, after_s=60), after_s=61)


def test_a_proof_that_died_between_the_databases_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    username, phone = new_username(), new_phone()
    user_id = registered(username, phone)
    before = logged_in(username)
    code = ask(phone)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            log_in(phone, code)
    assert find_user_id(phone) == user_id
    # the scan ends what was set before
    settle_verifications(now=NOW + timedelta(seconds=30))
    customer = get_customer(user_id)
    assert (customer.password, customer.phone) == ("", phone.value)
    assert customer.phone_verified_at is not None
    with pytest.raises(TokenInvalid):
        refresh(token=before.refresh, now=NOW + timedelta(seconds=31))


def test_a_login_after_such_a_crash_is_not_ended_by_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    phone = new_phone()
    registered(phone)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            log_in(phone, ask(phone))
    pair = log_in(phone, ask(phone, after_s=60), after_s=61)
    settle_verifications(now=NOW + timedelta(seconds=90))
    assert refresh(token=pair.refresh, now=NOW + timedelta(seconds=91)).access


@pytest.mark.parametrize("shard", [0, 1])
def test_a_crash_before_the_directory_leaves_the_code_good(shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = shard_aliases()[shard]
    monkeypatch.setattr("apps.users.services.registration.new_user_id", lambda: user_id_on(alias))
    phone = new_phone()
    code = ask(phone)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "_accept", crash)
        with pytest.raises(Crash):
            log_in(phone, code)
    assert find_user_id(phone) is None
    user_id = owner(log_in(phone, code))
    assert reap_orphan_customers(alias=alias, now=NOW + timedelta(seconds=130)) == 1
    assert get_customer(user_id).phone == phone.value


def test_codes_are_cleared_a_day_later() -> None:
    phone = new_phone()
    ask(phone)
    digest = blind_index(phone.kind, phone.value)[0].digest
    purge_directory(now=NOW + timedelta(hours=23))
    assert OneTimeCode.objects.filter(digest=digest).exists()
    purge_directory(now=NOW + timedelta(hours=25))
    assert not OneTimeCode.objects.filter(digest=digest).exists()
