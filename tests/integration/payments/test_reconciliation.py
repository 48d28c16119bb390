"""Settlement files against the ledger: what agrees, what is mended, what stays for the staff; cut off and repeated."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.orders.audit.payments import reconciliation_goes_on
from apps.orders.services import reconciliation
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment_sweeps import drive_due_refunds
from apps.orders.services.reconciliation import reconcile, reconcile_day_before
from apps.payments.errors import ProviderUnavailable
from apps.payments.models import Attempt, Difference, Refund, SettlementRun
from apps.payments.providers import registry
from apps.payments.selectors import get_attempt, refunds_of
from apps.payments.types import (
    AttemptStatus,
    DifferenceKind,
    Money,
    PaymentOutcome,
    RefundOutcome,
    RefundStatus,
    SettlementEntry,
)
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from infra.staff.actions import new_token
from tests.factories.orders import make_sku
from tests.factories.payments import (
    ask_refund,
    deliver,
    delivery,
    open_attempt,
    paid_order,
    reload,
    start,
    tell_refund,
    unpaid_order,
    wait_until,
)
from tests.factories.staff import logged_in, make_operator


class Books:
    """A provider whose settlement file and answers the test writes."""

    name, account, captures_apart = "sandbox", "floodgate", False

    def __init__(self):
        self.lines, self.reads = [], 0

    def add(self, reference, amount, *, currency="GBP", at=None):
        entry = SettlementEntry(
            reference, reference.startswith("re_"), Money(Decimal(amount), currency), at or timezone.now()
        )
        self.lines.append(entry)

    def settlement(self, day):
        self.reads += 1
        return iter(list(self.lines))

    def fetch_payment(self, payment):
        told = [line.money for line in self.lines if line.reference == payment.reference]
        return PaymentOutcome(AttemptStatus.SUCCEEDED if told else AttemptStatus.PROCESSING, told[0] if told else None)

    def fetch_refund(self, order):
        return RefundOutcome(RefundStatus.SUCCEEDED)


@pytest.fixture
def books(monkeypatch):
    provider = Books()
    monkeypatch.setattr(registry, "_build", lambda name: provider)
    return provider


database = pytest.mark.django_db(databases=list(settings.DATABASES))


def today():
    return timezone.now().date()


def run(**fields):
    return reconcile(provider="sandbox", day=today(), now=timezone.now(), **fields)


def differences(*orders):
    """Return kind and state of the differences about the orders."""
    ids = [str(order.id) for order in orders]
    rows = Difference.objects.order_by("id")
    return [(row.kind, row.state) for row in rows if any(each in row.reference for each in ids)]


def settled(order):
    return get_row(order).settled_on


def get_row(order):
    return Attempt.objects.at(place_of_order(order.id), Month.of_id(order.id)).get(order_id=order.id, n=1)


@database
@pytest.mark.parametrize("shard", [0, 1])
def test_what_both_know_is_marked_and_no_difference(books, shard):
    sku = make_sku(10)
    order = paid_order([(sku, 2)], shard=shard)
    refund = ask_refund(order, (sku, 1))
    tell_refund(refund, "succeeded")
    books.add(f"pay_{order.id}_1", "5.00")
    books.add(refund.refund_id, "2.50")
    for _ in range(2):
        report = run()
        assert (report.is_finished, report.line_count) == (True, 2)
        assert differences(order) == []
    assert settled(order) == today()
    place, month = place_of_order(order.id), Month.of_id(order.id)
    assert Refund.objects.at(place, month).get(order_id=order.id).settled_on == today()


@database
def test_a_payment_whose_callback_never_came_is_mended(books):
    # given an order that waits, and one that was cancelled, both paid at the provider
    waiting, closed = unpaid_order(), unpaid_order()
    for order in (waiting, closed):
        open_attempt(order)
        books.add(f"pay_{order.id}_1", "12.34")
    cancel_order(user_id=closed.user_id, order_id=closed.id, reason="", now=timezone.now())
    report = run()
    # then the one is paid, the other's money goes back, and both are noted
    assert reload(waiting).status == "paid"
    assert [refund.unexpected for refund in refunds_of(closed.id)] == [True]
    assert differences(waiting, closed) == [("missing_here", "mended")] * 2
    assert report.mended[DifferenceKind.MISSING_HERE] == 2
    assert settled(waiting) == settled(closed) == today()


@database
def test_a_refund_whose_end_nobody_told_is_mended(books):
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    refund = ask_refund(order, (sku, 1))
    books.add(f"pay_{order.id}_1", "2.50")
    books.add(refund.refund_id, "2.50")
    run()
    assert reload(order).status == "refunded"
    assert differences(order) == [("missing_here", "mended")]


@database
def test_what_the_provider_cannot_be_asked_about_stays_open_until_it_can(books, monkeypatch):
    order = unpaid_order()
    open_attempt(order)
    books.add(f"pay_{order.id}_1", "12.34")

    def away(payment):
        raise ProviderUnavailable("away")

    with monkeypatch.context() as down:
        down.setattr(books, "fetch_payment", away)
        run()
    assert differences(order) == [("missing_here", "open")]
    run()
    assert differences(order) == [("missing_here", "mended")]
    assert reload(order).status == "paid"


@database
def test_what_no_file_tells_of_is_found_and_closed_by_the_next_days_file(books):
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    refund = ask_refund(order, (sku, 1))
    tell_refund(refund, "succeeded")
    run()
    assert differences(order) == [("missing_there", "open")] * 2
    # when the provider's day ended before ours
    books.add(f"pay_{order.id}_1", "2.50")
    books.add(refund.refund_id, "2.50")
    reconcile(provider="sandbox", day=today() + timedelta(days=1), now=timezone.now())
    assert differences(order) == [("missing_there", "mended")] * 2


@database
def test_what_cannot_be_mended_is_kept_for_the_staff_by_kind(books):
    sku = make_sku(20)
    other_money, twice, next_day, gone = (paid_order([(sku, 2)]) for _ in range(4))
    books.add(f"pay_{other_money.id}_1", "4.99")
    for _ in range(2):
        books.add(f"pay_{twice.id}_1", "5.00")
    books.add(f"pay_{next_day.id}_1", "5.00")
    books.add(f"pay_{gone.id}_7", "5.00")
    books.add(f"re_{gone.id}_1", "5.00")
    books.add("somebody-elses", "1.00")
    run()
    run()
    assert differences(other_money) == [("amount", "open"), ("missing_there", "open")]
    assert differences(twice) == [("doubled", "open")]
    assert differences(gone) == [("unknown", "open")] * 2 + [("missing_there", "open")]
    assert Difference.objects.get(reference="somebody-elses").kind == "unknown"
    # a line that comes again with another day's file is money that moved twice
    reconcile(provider="sandbox", day=today() + timedelta(days=1), now=timezone.now())
    assert differences(next_day) == [("doubled", "open")]


@database
@pytest.mark.parametrize(
    ("status", "fields", "kind"),
    [
        ("rejected", {}, "contradiction"),
        ("failed", {}, "contradiction"),
        ("requested", {}, "contradiction"),
        ("succeeded", {"outside": True}, "doubled"),
        ("succeeded", {"tries": 2}, "doubled"),
    ],
)
def test_money_that_went_back_against_what_was_decided_is_the_staffs(books, status, fields, kind):
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    refund = ask_refund(order, (sku, 1))
    rows = Refund.objects.at(place_of_order(order.id), Month.of_id(order.id)).filter(order_id=order.id)
    rows.update(status=status, **fields)
    books.add(f"pay_{order.id}_1", "2.50")
    books.add(refund.refund_id, "2.50")
    run()
    assert differences(order) == [(kind, "open")]


@database
def test_a_run_that_was_cut_off_goes_on_behind_its_last_batch(books, monkeypatch):
    sku = make_sku(20)
    orders = [paid_order([(sku, 1)]) for _ in range(5)]
    for order in orders:
        books.add(f"pay_{order.id}_1", "2.50")
    monkeypatch.setattr(reconciliation, "BATCH_SIZE", 2)
    first = run(deadline_s=0)
    assert (first.is_finished, first.line_count) == (False, 2)
    assert [settled(order) is not None for order in orders] == [True, True, False, False, False]

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(reconciliation.payments, "note_progress", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    last = run()
    assert (last.is_finished, last.line_count) == (True, 5)
    assert differences(*orders) == []
    assert all(settled(order) for order in orders)


@database
def test_yesterday_is_done_once_by_the_clock_and_a_provider_that_is_away_is_left_for_later(books, monkeypatch):
    def away(day):
        raise ProviderUnavailable("away")

    with monkeypatch.context() as down:
        down.setattr(books, "settlement", away)
        assert reconcile_day_before(now=timezone.now()) == []
    assert [report.is_finished for report in reconcile_day_before(now=timezone.now())] == [True]
    assert reconcile_day_before(now=timezone.now()) == []
    assert books.reads == 1


@database
def test_the_command_lists_every_open_difference_with_its_age(books, capsys):
    books.add("somebody-elses", "1.00", at=timezone.now() - timedelta(hours=5))
    call_command("reconcile_payments", "--date", today().isoformat())
    told = capsys.readouterr().out
    assert "1 lines; mended: nothing; for the staff: " in told
    assert "unknown" in told
    assert "5.0 h  somebody-elses" in told
    with pytest.raises(CommandError, match="yet to come"):
        call_command("reconcile_payments", "--date", (today() + timedelta(days=1)).isoformat())


@database
def test_what_the_staff_resolve_stays_resolved_and_the_audit_names_what_nobody_does(books, staff_site):
    books.add("somebody-elses", "1.00")
    run()
    row = Difference.objects.get(reference="somebody-elses")
    soon, late = timezone.now(), timezone.now() + timedelta(days=8)
    assert list(reconciliation_goes_on("default", soon)) == []
    assert [each.subject for each in reconciliation_goes_on("default", late)] == ["difference somebody-elses"]
    # a member of staff without the right cannot, one who has it needs a reason, and it is done once
    path = "/admin/queues/differences/"

    def resolve(browser, reason):
        return browser.post(
            path, {"item": row.id, "do": "resolve", "reason": reason, "token": new_token()}, follow=True
        )

    other = logged_in(make_operator("view_queues", "decide_refund"))
    assert resolve(other, "x").status_code == 403
    staff = logged_in(make_operator("view_queues", "resolve_difference", username="finn"))
    assert "somebody-elses" in staff.get(path).content.decode()
    resolve(staff, "")
    assert Difference.objects.get(id=row.id).state == "open"
    resolve(staff, "a test payment of the bank")
    row.refresh_from_db()
    assert (row.state, row.resolution) == ("resolved", "a test payment of the bank")
    assert row.resolved_by.startswith("staff:")
    assert "not open any more" in resolve(staff, "again").content.decode()
    run()
    row.refresh_from_db()
    assert row.state == "resolved"
    assert list(reconciliation_goes_on("default", late)) == []
    # a run that nobody ended is named too
    SettlementRun.objects.create(provider="sandbox", day=today() - timedelta(days=9), started_at=soon)
    assert len(list(reconciliation_goes_on("default", late))) == 1


@pytest.mark.usefixtures("committed")
def test_the_sandboxs_own_file_agrees_with_what_was_paid_and_given_back_there(bank):
    # given a silent payment, and one that is paid and given back
    silent, back = unpaid_order(), unpaid_order()
    for order in (silent, back):
        bank.pay(start(order).redirect_url, "silent")
    deliver(*delivery(f"pay_{back.id}_1", "succeeded", amount="12.34"))
    cancel_order(user_id=back.user_id, order_id=back.id, reason="", now=timezone.now())

    def is_back():
        drive_due_refunds(now=timezone.now() + timedelta(seconds=60))
        return reload(back).status == "refunded"

    wait_until(is_back, what="the refund")
    run()
    assert reload(silent).status == "paid"
    assert get_attempt(silent.id, 1).captured_amount == Decimal("12.34")
    assert differences(silent, back) == [("missing_here", "mended")]
    assert settled(silent) == settled(back) == today()
    assert bank.call("GET", "/v1/settlements/2026-13-01").status_code == 404
