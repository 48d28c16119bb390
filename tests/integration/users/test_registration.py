"""Registering: who becomes a customer, what is a login, and what a crash at each step leaves behind."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import OperationalError

from apps.users.errors import CredentialsInvalid, LoginTaken, RegistrationLapsed
from apps.users.models import Customer, CustomerState, Identity, IdentityState, Login, SentMessage, Verification
from apps.users.selectors import find_user_id, get_customer, last_sent_code
from apps.users.services import registration as steps
from apps.users.services.registration import reap_orphan_customers
from apps.users.services.verification import verify_login
from apps.users.types import LoginName
from infra.crypto.blind_index import blind_index
from infra.outbox.models import OutboxEvent
from infra.sharding.places import Place, place_of_user, shard_aliases
from tests.factories.users import NOW, logged_in, new_email, new_phone, new_username, registered, user_id_on

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

CrashIn = Callable[[str, Callable[[], object]], None]
LATER = NOW + timedelta(seconds=121)


class Crash(BaseException):
    """Ends the code under test as `kill -9` would: no handler of the code may catch it."""


@pytest.fixture(params=[0, 1])
def alias(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let registrations fall on one shard, on each in turn."""
    alias = shard_aliases()[request.param]
    monkeypatch.setattr(steps, "new_user_id", lambda: user_id_on(alias))
    return alias


@pytest.fixture
def crash_in(monkeypatch: pytest.MonkeyPatch) -> CrashIn:
    """Call something that dies on reaching a step of the registration."""

    def crash(*_: object, **__: object) -> None:
        raise Crash

    def call(step: str, work: Callable[[], object]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(steps, step, crash)
            with pytest.raises(Crash):
                work()

    return call


def customers_on(alias: str, login: LoginName) -> list[Customer]:
    rows = Customer.objects.on_shard(alias).order_by("-registered_at")[:20]
    return [row for row in rows if getattr(row, login.kind) == login.value]


def reap(alias: str) -> int:
    return reap_orphan_customers(alias=alias, now=LATER)


def test_a_username_is_a_login_at_once(alias: str) -> None:
    username = new_username()
    user_id = registered(username)
    assert place_of_user(user_id).alias == alias
    assert find_user_id(username) == user_id
    customer = get_customer(user_id)
    assert (customer.state, customer.version, customer.username) == (CustomerState.LIVE, 1, username.value)
    assert logged_in(username).access


def test_registering_is_told_once_with_the_customers_first_version(alias: str) -> None:
    user_id = registered()
    events = OutboxEvent.objects.using(alias).filter(aggregate="customer", aggregate_id=user_id)
    assert [(event.type, event.aggregate_version) for event in events] == [("customer.registered", 1)]


def test_personal_data_is_stored_encrypted(alias: str) -> None:
    email = new_email()
    user_id = registered(email)
    stored = (
        Customer.objects.for_user(user_id).filter(user_id=user_id).extra(select={"raw": "email"}).values_list("raw")
    )
    assert email.value not in stored[0][0]
    assert get_customer(user_id).email == email.value


def test_a_username_in_use_is_told() -> None:
    username = new_username()
    registered(username)
    with pytest.raises(LoginTaken):
        registered(username)


def test_an_email_address_logs_in_only_once_it_is_verified() -> None:
    email = new_email()
    user_id = registered(email)
    with pytest.raises(CredentialsInvalid):
        logged_in(email)
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    assert find_user_id(email) == user_id
    assert logged_in(email).access


def test_an_unverified_login_blocks_nobody() -> None:
    # given somebody who registered with another one's address
    email = new_email()
    registered(email)
    # when its owner registers, too, and verifies
    owner_id = registered(email)
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    # then the address is the owner's
    assert find_user_id(email) == owner_id


@pytest.mark.parametrize("new_login", [new_email, new_phone])
def test_a_known_address_gets_the_same_answer_and_its_owner_is_told(new_login) -> None:
    # given a verified login
    login = new_login()
    owner_id = registered(login)
    verify_login(login=login, code=last_sent_code(login), now=NOW)
    first_code = last_sent_code(login)
    # when somebody registers with it
    user_id = registered(login)
    # then they get a user id like everybody, no code was sent, and the owner has a notice
    assert user_id not in (None, owner_id)
    assert last_sent_code(login) == first_code
    sent = SentMessage.objects.filter(digest=blind_index(login.kind, login.value)[0].digest).order_by("id")
    assert [bool(message.code) for message in sent] == [True, False]
    assert find_user_id(login) == owner_id


def test_a_crash_before_the_directory_leaves_the_login_free(alias: str, crash_in: CrashIn) -> None:
    # given a registration that dies after the shard's commit
    username = new_username()
    crash_in("_write_directory", lambda: registered(username))
    orphan = customers_on(alias, username)[0]
    # then the login is free at once, for the same person trying again
    assert registered(username) != orphan.user_id
    # and the reaper takes the orphan away, for good
    assert reap(alias) == 1
    assert [customer.user_id for customer in customers_on(alias, username)] == [find_user_id(username)]
    assert Identity.objects.get(user_id=orphan.user_id).state == IdentityState.VOID


def test_a_crash_inside_the_directorys_transaction_leaves_the_login_free(alias: str, crash_in: CrashIn) -> None:
    username, email = new_username(), new_email()
    crash_in("insert_verification", lambda: registered(username, email))
    orphan = customers_on(alias, username)[0]
    assert not Identity.objects.filter(user_id=orphan.user_id).exists()
    assert find_user_id(username) is None
    assert registered(username, email)
    assert reap(alias) == 1


def test_a_crash_after_the_directory_leaves_a_whole_customer(alias: str, crash_in: CrashIn) -> None:
    # given a registration that dies before it is confirmed on the shard
    username = new_username()
    crash_in("confirm_registration", lambda: registered(username))
    user_id = find_user_id(username)
    assert get_customer(user_id).state == CustomerState.REGISTERING
    # then the reaper confirms it, with its event
    assert reap(alias) == 1
    customer = get_customer(user_id)
    assert (customer.state, customer.version) == (CustomerState.LIVE, 1)
    assert logged_in(username).access


def test_a_customer_can_log_in_before_the_reaper_has_come(alias: str, crash_in: CrashIn) -> None:
    username = new_username()
    crash_in("confirm_registration", lambda: registered(username))
    assert logged_in(username).access
    assert get_customer(find_user_id(username)).state == CustomerState.LIVE


def test_a_registration_that_stalls_until_the_reaper_has_come_fails(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a registration that stops between its two commits, and a reaper that comes meanwhile
    username = new_username()
    write_directory = steps._write_directory

    def stalled(*arguments):
        assert reap(alias) == 1
        return write_directory(*arguments)

    # when it goes on
    monkeypatch.setattr(steps, "_write_directory", stalled)
    with pytest.raises(RegistrationLapsed):
        registered(username)
    # then nothing of it is left
    assert find_user_id(username) is None
    assert customers_on(alias, username) == []


def test_without_the_void_identity_a_stalled_registration_would_leave_a_login_of_nobody(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # negative control: a reaper that only deletes
    username = new_username()
    write_directory = steps._write_directory

    def stalled(*arguments):
        with monkeypatch.context() as unguarded:
            unguarded.setattr(steps, "_claim_identity", lambda *_: IdentityState.VOID)
            assert reap(alias) == 1
        return write_directory(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "_write_directory", stalled)
        user_id = registered(username)
    assert find_user_id(username) == user_id
    assert customers_on(alias, username) == []


def test_a_reaper_that_dies_after_its_claim_is_finished_by_the_next(alias: str, crash_in: CrashIn) -> None:
    username = new_username()
    crash_in("_write_directory", lambda: registered(username))
    crash_in("delete_orphan", lambda: reap(alias))
    assert len(customers_on(alias, username)) == 1
    assert reap(alias) == 1
    assert customers_on(alias, username) == []


def test_the_reaper_leaves_a_young_registration_alone(alias: str, crash_in: CrashIn) -> None:
    username = new_username()
    crash_in("_write_directory", lambda: registered(username))
    assert reap_orphan_customers(alias=alias, now=NOW + timedelta(seconds=60)) == 0
    assert len(customers_on(alias, username)) == 1


def test_a_shard_that_dies_before_the_confirmation_does_not_fail_the_registration(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    username = new_username()

    def dead(**_: object) -> None:
        raise OperationalError(2013, "Lost connection")

    with monkeypatch.context() as patched:
        patched.setattr(steps, "confirm_registration", dead)
        user_id = registered(username)
    assert find_user_id(username) == user_id
    assert reap(alias) == 1


@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_shard_costs_nobody_their_registration(dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_alias, write_customer = shard_aliases()[dead], steps._write_customer

    def write(place: Place, *arguments: object) -> None:
        if place.alias == dead_alias:
            raise OperationalError(2003, "Can't connect")
        write_customer(place, *arguments)

    monkeypatch.setattr(steps, "_write_customer", write)
    assert all(place_of_user(registered()).alias != dead_alias for _ in range(4))
    # with all of them dead it is told
    monkeypatch.setattr(steps, "shard_aliases", lambda: [dead_alias])
    monkeypatch.setattr(steps, "new_user_id", lambda: user_id_on(dead_alias))
    with pytest.raises(OperationalError):
        registered()


def test_a_taken_username_leaves_no_customer_behind(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a race that both registrations enter before either has written
    username = new_username()
    registered(username)
    monkeypatch.setattr(steps, "find_user_id", lambda _: None)
    with pytest.raises(LoginTaken):
        registered(username)
    assert len(customers_on(alias, username)) == 1
    assert Login.objects.filter(digest=blind_index(username.kind, username.value)[0].digest).count() == 1


def test_an_expired_or_used_code_is_refused() -> None:
    email = new_email()
    registered(email)
    code = last_sent_code(email)
    with pytest.raises(CredentialsInvalid):
        verify_login(login=email, code=code, now=NOW + timedelta(seconds=301))
    verify_login(login=email, code=code, now=NOW + timedelta(seconds=299))
    with pytest.raises(CredentialsInvalid):
        verify_login(login=email, code=code, now=NOW + timedelta(seconds=299))


def test_a_code_has_five_tries() -> None:
    email = new_email()
    registered(email)
    code = last_sent_code(email)
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    for _ in range(5):
        with pytest.raises(CredentialsInvalid):
            verify_login(login=email, code=wrong, now=NOW)
    with pytest.raises(CredentialsInvalid):
        verify_login(login=email, code=code, now=NOW)
    # negative control: with a try left it is accepted
    Verification.objects.filter(digest=blind_index(email.kind, email.value)[0].digest).update(try_count=4)
    verify_login(login=email, code=code, now=NOW)


def test_codes_are_stored_as_keyed_digests() -> None:
    email = new_email()
    registered(email)
    row = Verification.objects.get(digest=blind_index(email.kind, email.value)[0].digest)
    assert last_sent_code(email).encode() not in bytes(row.code_digest)
    assert len(bytes(row.code_digest)) == 32
