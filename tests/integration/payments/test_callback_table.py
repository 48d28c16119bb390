"""Every cell of the tables of docs/payments.md, by a delivery that takes the whole way of a provider's callback."""

from decimal import Decimal

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders.locks import lock_order
from apps.orders.services.payment import record_payment_outcome
from apps.orders.services.transitions import advance
from apps.payments.models import Callback, Refund
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, refunds_of
from apps.payments.types import AttemptStatus, PaymentOutcome
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.orders import make_sku
from tests.factories.payments import (
    SECRET,
    ask_refund,
    deliver,
    delivery,
    open_attempt,
    paid_order,
    reload,
    send_some,
    unpaid_order,
)

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture(autouse=True)
def _sandbox_of_the_test(settings):
    settings.PAYMENT_PROVIDERS = {"sandbox": {**settings.PAYMENT_PROVIDERS["sandbox"], "secret": SECRET}}
    registry._build.cache_clear()
    yield
    registry._build.cache_clear()


def last_callback(order):
    row = Callback.objects.at(place_of_order(order.id)).filter(order_id=order.id).latest("received_at")
    return row.result, row.alert


STATES = ["pending", "requires_action", "processing", "authorized", "succeeded", "failed", "cancelled"]
CELLS = {
    "pending":         ["ignore", "move",   "move",   "authorize", "capture", "move",          "move"],
    "requires_action": ["ignore", "ignore", "move",   "authorize", "capture", "move",          "move"],
    "processing":      ["ignore", "ignore", "ignore", "authorize", "capture", "move",          "move"],
    "authorized":      ["ignore", "ignore", "ignore", "ignore",    "capture", "move",          "move"],
    "succeeded":       ["ignore", "ignore", "ignore", "ignore",    "ignore",  "contradiction", "contradiction"],
    "failed":          ["ignore", "ignore", "ignore", "authorize", "capture", "ignore",        "ignore"],
    "cancelled":       ["ignore", "ignore", "ignore", "ignore",    "capture", "ignore",        "ignore"],
}  # fmt: skip
RESULTS = {
    "ignore": "ignored",
    "move": "applied",
    "authorize": "applied",
    "capture": "applied",
    "contradiction": "contradiction",
}


@pytest.mark.parametrize("closed", [False, True], ids=["waiting", "cancelled-order"])
@pytest.mark.parametrize(
    ("known", "told", "follows"), [(known, told, CELLS[known][n]) for known in STATES for n, told in enumerate(STATES)]
)
def test_a_delivery_about_a_payment_does_what_its_cell_says(known, told, follows, closed):
    # given an attempt that is known as that, of an order that waits for its payment or was closed
    order = unpaid_order()
    attempt = open_attempt(order)
    if known != "pending":
        record_payment_outcome(order_id=order.id, n=1, outcome=PaymentOutcome(AttemptStatus(known)), now=timezone.now())
    if closed:
        close(order)
    before = reload(order)
    # when the provider delivers its word
    assert deliver(*delivery(attempt.payment_id, told, amount="12.34")) == RESULTS[follows]
    # then the attempt, the order and the money are as the cell says
    after, standing = reload(order), get_attempt(order.id, 1)
    moved = follows in ("move", "authorize", "capture")
    given_up = follows == "authorize" and closed
    assert standing.status == ("cancelled" if given_up else told if moved else known)
    assert after.version == before.version + moved
    assert last_callback(order) == (RESULTS[follows], follows == "contradiction")
    paid = "succeeded" in (known, standing.status)
    assert standing.captured_amount == (Decimal("12.34") if paid else 0)
    unexpected = follows == "capture" and closed
    assert [(refund.unexpected, refund.amount) for refund in refunds_of(order.id)] == (
        [(True, Decimal("12.34"))] if unexpected else []
    )
    assert after.status == ("paid" if follows == "capture" and not closed else before.status)
    if not closed:
        holds = {"succeeded": "paid", "authorized": "authorized"}
        assert after.payment_status == holds.get(standing.status, "unpaid")


def close(order):
    """Cancel an order that still waits; one that is paid stays."""
    place = place_of_order(order.id)
    with place.atomic():
        row = lock_order(place, order.id)
        if row.status == "pending_payment":
            changes = {"closed_as": "cancelled"}
            advance(place, row, changes=changes, kind="cancelled", actor="test", detail="", now=timezone.now())


@pytest.mark.parametrize("known", STATES)
@pytest.mark.parametrize("wrong", [{"amount": "12.33"}, {"currency": "USD"}, {"account": "another"}])
def test_a_delivery_about_other_money_or_another_merchant_changes_nothing_in_any_state(known, wrong):
    order = unpaid_order()
    attempt = open_attempt(order)
    if known != "pending":
        record_payment_outcome(order_id=order.id, n=1, outcome=PaymentOutcome(AttemptStatus(known)), now=timezone.now())
    version = reload(order).version
    assert deliver(*delivery(attempt.payment_id, "succeeded", **{"amount": "12.34", **wrong})) == "mismatch"
    assert (get_attempt(order.id, 1).status, reload(order).version) == (known, version)
    assert last_callback(order) == ("mismatch", True)


REFUND_WORDS = ["processing", "succeeded", "failed"]
REFUND_CELLS = {
    "requested":  ["ignore", "contradiction", "contradiction"],
    "approved":   ["move",   "move",          "retry"],
    "rejected":   ["ignore", "contradiction", "contradiction"],
    "processing": ["ignore", "move",          "retry"],
    "succeeded":  ["ignore", "ignore",        "contradiction"],
    "failed":     ["ignore", "contradiction", "ignore"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("known", "told", "follows"),
    [(known, told, REFUND_CELLS[known][n]) for known in REFUND_CELLS for n, told in enumerate(REFUND_WORDS)],
)
def test_a_delivery_about_a_refund_does_what_its_cell_says(known, told, follows):
    # given a refund of one of two units that is known as that
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    send_some(order.id)
    refund = ask_refund(order, (sku, 1))
    rows = Refund.objects.at(place_of_order(order.id), Month.of_id(order.id)).filter(order_id=order.id)
    rows.update(status=known)
    before = reload(order)
    # when the provider delivers its word
    result = {**RESULTS, "retry": "applied"}[follows]
    assert deliver(*delivery(refund.refund_id, told, amount="2.50")) == result
    # then the refund and the order are as the cell says
    after, [standing] = reload(order), refunds_of(order.id)
    expected = {"move": (told, 1), "retry": ("approved", 2)}.get(follows, (known, 1))
    assert (str(standing.status), standing.tries) == expected
    assert after.version == before.version + (follows in ("move", "retry"))
    assert after.refunded_total == (Decimal("2.50") if (follows, told) == ("move", "succeeded") else 0)
    assert last_callback(order) == (result, follows == "contradiction")


@pytest.mark.parametrize(
    ("told", "result"), [("processing", "ignored"), ("failed", "ignored"), ("succeeded", "contradiction")]
)
def test_a_delivery_about_a_try_before_the_one_under_way_is_old_news_or_a_contradiction(told, result):
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    refund = ask_refund(order, (sku, 1))
    assert deliver(*delivery(refund.refund_id, "failed", amount="2.50")) == "applied"
    assert deliver(*delivery(f"{refund.refund_id}_t2", "processing", amount="2.50")) == "applied"
    assert deliver(*delivery(refund.refund_id, told, amount="2.50")) == result
    assert [(str(each.status), each.tries) for each in refunds_of(order.id)] == [("processing", 2)]


@pytest.mark.parametrize("known", list(REFUND_CELLS))
def test_a_delivery_about_a_refund_of_other_money_changes_nothing_in_any_state(known):
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    refund = ask_refund(order, (sku, 1))
    rows = Refund.objects.at(place_of_order(order.id), Month.of_id(order.id)).filter(order_id=order.id)
    rows.update(status=known)
    assert deliver(*delivery(refund.refund_id, "succeeded", amount="2.51")) == "mismatch"
    assert [str(each.status) for each in refunds_of(order.id)] == [known]
