"""Ending an account: what ends at once, what is erased later, what a crash leaves, what stays."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders.audit.customers import accounts_end
from apps.orders.holding import OrderHolding
from apps.orders.models import Order
from apps.orders.services.cancellation import cancel_order
from apps.users import holdings as registry
from apps.users.errors import AccountInUse, CredentialsInvalid, CustomerNotFound
from apps.users.holdings import ErasureStep
from apps.users.models import Address, Customer, CustomerState, Erasure, Identity, Login, SentMessage, Session
from apps.users.selectors import find_user_id, get_customer, last_sent_code
from apps.users.senders.base import Notice
from apps.users.services import erasure as steps
from apps.users.services.erasure import drive_erasures, erase_customer
from apps.users.services.profile import unblock_customer, update_profile
from apps.users.services.verification import settle_verifications, verify_login
from infra.crypto.blind_index import blind_index
from infra.idempotency.models import IdempotencyKey
from infra.outbox.models import OutboxEvent
from infra.sharding.months import Month
from infra.sharding.places import place_of_user
from tests.factories.orders import event_versions, make_buyer, outbox_of, placed_order
from tests.factories.users import NOW, logged_in, make_address, new_email, new_username, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

SOON = NOW + timedelta(seconds=1)
DUE = NOW + timedelta(seconds=61)


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def erasure_of(user_id: int) -> Erasure:
    return Erasure.objects.for_user(user_id).get(user_id=user_id)


def drive(user_id: int, *, now: Any = DUE) -> None:
    drive_erasures(alias=place_of_user(user_id).alias, now=now)


def cancelled_order(buyer) -> int:
    order = placed_order(buyer, note="leave it at the door")
    cancel_order(user_id=buyer.user_id, order_id=order.id, reason="I moved", now=timezone.now())
    return order.id


def order_row(order_id: int) -> Order:
    return Order.objects.for_order(order_id).get(id=order_id)


def test_an_account_ends_at_once() -> None:
    username, email = new_username(), new_email()
    user_id = registered(username, email)
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    logged_in(username)
    make_address(user_id)
    erase_customer(user_id=user_id, actor="shopper", now=SOON)
    erase_customer(user_id=user_id, actor="shopper", now=SOON)
    customer = get_customer(user_id)
    assert (customer.state, customer.username, customer.email, customer.password) == (CustomerState.ERASED, "", "", "")
    assert not Session.objects.for_user(user_id).filter(user_id=user_id, ended_at__isnull=True).exists()
    assert not Address.objects.for_user(user_id).filter(user_id=user_id).exists()
    for login in (username, email):
        assert find_user_id(login) is None
        with pytest.raises(CredentialsInvalid):
            logged_in(login)
    # the owner is told, and the logins are free
    told = SentMessage.objects.filter(digest=blind_index(email.kind, email.value)[0].digest, code="")
    assert list(told.values_list("text", flat=True)) == [Notice.ACCOUNT_DELETED]
    assert registered(username) != user_id
    # the id is never another's, and the event is told with the next version
    assert Identity.objects.filter(user_id=user_id).exists()
    events = OutboxEvent.objects.using(place_of_user(user_id).alias).filter(aggregate="customer", aggregate_id=user_id)
    assert [event.type for event in events.order_by("aggregate_version")][-1] == "customer.erased"


def test_nothing_brings_an_ended_account_back() -> None:
    user_id = registered()
    erase_customer(user_id=user_id, actor="shopper", now=SOON)
    for change in (
        lambda: update_profile(user_id=user_id, changes={"display_name": "Ada"}, now=SOON),
        lambda: unblock_customer(user_id=user_id, now=SOON),
        lambda: make_address(user_id),
    ):
        with pytest.raises(CustomerNotFound):
            change()


def test_an_account_with_an_order_under_way_stays() -> None:
    buyer = make_buyer()
    order = placed_order(buyer)
    with pytest.raises(AccountInUse):
        erase_customer(user_id=buyer.user_id, actor="shopper", now=timezone.now())
    cancel_order(user_id=buyer.user_id, order_id=order.id, reason="", now=timezone.now())
    erase_customer(user_id=buyer.user_id, actor="shopper", now=timezone.now())


@pytest.mark.parametrize("shard", [0, 1])
def test_what_is_personal_in_orders_is_erased_and_the_books_stay(shard: int) -> None:
    buyer = make_buyer(shard=shard)
    order_id = cancelled_order(buyer)
    before = order_row(order_id)
    assert before.address["name"] == "Ada Lovelace"
    now = timezone.now()
    erase_customer(user_id=buyer.user_id, actor="shopper", now=now)
    drive(buyer.user_id, now=now)
    assert order_row(order_id).address is not None
    drive(buyer.user_id, now=now + timedelta(seconds=61))
    after = order_row(order_id)
    assert (after.address, after.note, after.cancel_reason) == (None, "", "")
    assert (after.total, after.city, after.status) == (before.total, before.city, before.status)
    assert after.version == before.version + 1
    assert event_versions(order_id)[-1] == (after.version, "erased")
    assert outbox_of(order_id)[-1] == (after.version, "order.erased")
    erasure = erasure_of(buyer.user_id)
    assert (erasure.due_at, erasure.actor) == (None, "shopper")
    assert erasure.finished_at is not None
    # again changes nothing
    drive(buyer.user_id, now=now + timedelta(days=2))
    assert order_row(order_id).version == after.version


def test_an_order_that_is_still_under_way_is_waited_for() -> None:
    buyer = make_buyer()
    first = cancelled_order(buyer)
    late = placed_order(buyer)
    now = timezone.now()
    step = OrderHolding().erase(buyer.user_id, cursor="", now=now)
    assert step == ErasureStep(f"{Month.of_id(first).number}:{first}", not_before=now + timedelta(days=1))
    assert (order_row(first).address, order_row(late.id).address is None) == (None, False)
    cancel_order(user_id=buyer.user_id, order_id=late.id, reason="", now=now)
    assert OrderHolding().erase(buyer.user_id, cursor=step.cursor, now=now) == ErasureStep("")
    assert order_row(late.id).address is None


def test_addresses_are_kept_as_long_as_the_law_wants(settings) -> None:
    settings.ORDER_ADDRESS_KEPT_DAYS = 3650
    buyer = make_buyer()
    order_id = cancelled_order(buyer)
    allowed_at = Month.of_id(order_id).ends_at + timedelta(days=3650)
    step = OrderHolding().erase(buyer.user_id, cursor="", now=timezone.now())
    assert step.not_before == allowed_at
    assert order_row(order_id).address is not None
    assert OrderHolding().erase(buyer.user_id, cursor=step.cursor, now=allowed_at) == ErasureStep("")
    assert order_row(order_id).address is None


def test_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.orders.holding._BATCH_ROWS", 2)
    buyer = make_buyer()
    order_ids = [cancelled_order(buyer) for _ in range(3)]
    step = OrderHolding().erase(buyer.user_id, cursor="", now=timezone.now())
    assert step.cursor.endswith(f":{order_ids[1]}")
    assert [order_row(order_id).address is None for order_id in order_ids] == [True, True, False]
    assert OrderHolding().erase(buyer.user_id, cursor=step.cursor, now=timezone.now()).cursor == ""
    assert order_row(order_ids[2]).address is None


def test_stored_answers_and_devices_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.users.services.account_holding._BATCH_ROWS", 1)
    username = new_username()
    user_id = registered(username)
    place = place_of_user(user_id)
    for n in range(2):
        logged_in(username)
        IdempotencyKey(
            slot=place.slot, user_id=user_id, digest=bytes([n]), body_digest=b"", body=b"", created_at=NOW
        ).save(using=place.alias, force_insert=True)
    erase_customer(user_id=user_id, actor="shopper", now=NOW)
    drive(user_id)
    assert not IdempotencyKey.objects.for_user(user_id).filter(user_id=user_id).exists()
    assert not Session.objects.for_user(user_id).filter(user_id=user_id).exists()
    assert erasure_of(user_id).finished_at == DUE


def test_a_crash_before_the_directory_is_finished_by_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    username = new_username()
    user_id = registered(username)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "free_logins", crash)
        with pytest.raises(Crash):
            erase_customer(user_id=user_id, actor="shopper", now=NOW)
    # nobody gets in meanwhile
    with pytest.raises(CredentialsInvalid):
        logged_in(username)
    drive(user_id)
    assert find_user_id(username) is None
    assert registered(username)


def test_a_login_that_is_proven_while_the_account_ends_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    username, email = new_username(), new_email()
    user_id = registered(username, email)
    with monkeypatch.context() as patched:
        patched.setattr("apps.users.services.verification.tell_shard", crash)
        with pytest.raises(Crash):
            verify_login(login=email, code=last_sent_code(email), now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "free_logins", lambda _: None)
        erase_customer(user_id=user_id, actor="shopper", now=NOW)
    assert find_user_id(email) == user_id
    settle_verifications(now=DUE)
    assert find_user_id(email) is None
    assert get_customer(user_id).email == ""
    assert not Login.objects.filter(user_id=user_id).exists()


class Failing:
    """A holding whose customer is in trouble."""

    name = "aaa"

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.is_failing = True

    def is_under_way(self, user_id: int) -> bool:
        return False

    def erase(self, user_id: int, *, cursor: str, now: object) -> ErasureStep:
        if self.is_failing and user_id == self.user_id:
            raise RuntimeError("no")
        return ErasureStep("")


def test_one_customers_trouble_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registered()
    second = registered()
    while place_of_user(second).alias != place_of_user(first).alias:
        second = registered()
    failing = Failing(first)
    monkeypatch.setitem(registry._HOLDINGS, failing.name, failing)
    for user_id in (first, second):
        erase_customer(user_id=user_id, actor="shopper", now=NOW)
    drive(first)
    assert (erasure_of(first).finished_at, erasure_of(second).finished_at) == (None, DUE)
    assert erasure_of(first).due_at == DUE + timedelta(minutes=5)
    failing.is_failing = False
    drive(first, now=DUE + timedelta(minutes=5))
    assert erasure_of(first).finished_at is not None


def test_the_row_of_an_ended_account_holds_nothing_personal() -> None:
    user_id = registered(new_username(), new_email())
    erase_customer(user_id=user_id, actor="shopper", now=NOW)
    raw = Customer.objects.for_user(user_id).filter(user_id=user_id)
    columns = ("username", "email", "phone", "display_name", "password")
    assert raw.extra(select={f"raw_{name}": name for name in columns}).values_list(
        *[f"raw_{name}" for name in columns]
    )[0] == ("",) * len(columns)


def test_an_erasure_that_lies_still_is_found_by_the_audit_and_mended() -> None:
    user_id = registered()
    alias = place_of_user(user_id).alias
    now = timezone.now()

    def found() -> list:
        return [finding for finding in accounts_end(alias, now) if str(user_id) in finding.subject]

    erase_customer(user_id=user_id, actor="shopper", now=now)
    assert found() == []
    Erasure.objects.for_user(user_id).filter(user_id=user_id).update(due_at=now - timedelta(hours=1))
    [finding] = found()
    finding.mend(now)
    assert found() == []
